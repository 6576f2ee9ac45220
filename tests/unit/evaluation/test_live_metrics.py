"""Metrics that a TOML file declares."""

import pytest

from kamerton.core.errors import SettingsError
from kamerton.evaluation.live_metrics import BUILT_IN, read_metrics


def test_a_file_declares_metrics_beside_those_that_are_built_in(tmp_path):
    (tmp_path / "metrics.toml").write_text(
        """
        [[metric]]
        name = "reopened"
        type = "boolean"
        level = "conversation"
        better = "down"

        [[metric]]
        name = "polite"
        type = "boolean"
        from = "check"
        check = { kind = "rules", rules = [{ name = "please", pattern = "(?i)please" }] }
        """
    )
    known = read_metrics(tmp_path / "metrics.toml").metrics
    assert set(known) - set(BUILT_IN) == {"reopened", "polite"}
    assert (known["reopened"].level, known["reopened"].better) == ("conversation", "down")
    assert known["polite"].from_ == "check"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('name = "rating"\ntype = "number"', "declared once and not be built in"),
        ('name = "Bad name"\ntype = "number"', "name"),
        ('name = "a"\ntype = "float"', "type"),
        ('name = "a"\ntype = "boolean"\nfrom = "check"', "check must be given"),
        ('name = "a"\ntype = "number"\nlabels = ["x"]', "labels are for the type 'label'"),
        ('name = "a"\ntype = "label"\nmost = 3', "least and most are for numbers"),
        (
            'name = "a"\ntype = "boolean"\nfrom = "check"\ncheck = { kind = "exact" }',
            "must need no right answer",
        ),
        ('name = "a"\ntype = "number"\nbeter = "up"', "better"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, declared, message):
    (tmp_path / "metrics.toml").write_text(f"[[metric]]\n{declared}\n")
    with pytest.raises(SettingsError, match=message):
        read_metrics(tmp_path / "metrics.toml")
