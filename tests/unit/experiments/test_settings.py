"""Experiments as they are registered."""

import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller
from kamerton.experiments.settings import ExperimentSettings, read_experiment, unit_of

LORA_AGAINST_PREFIX = """
name = "lora-against-prefix"
hypothesis = "The LoRA knows our goods better"
control = "prefix"
min_units = 50

[arms.prefix]
variant = "support-prefix"

[arms.lora]
variant = "support-lora"
weight = 3

[primary]
metric = "rating"
smallest_effect = 0.05

[[guardrails]]
metric = "refused"
margin = 0.02

[analysis]
kind = "group-sequential"
days = 28
"""


def written(folder, text=LORA_AGAINST_PREFIX, name="lora-against-prefix"):
    place = folder / f"{name}.toml"
    place.write_text(text)
    return place


def test_an_experiment_is_read_with_what_was_not_said(tmp_path):
    found = read_experiment(written(tmp_path))
    assert found.weights == {"prefix": 1.0, "lora": 3.0}
    assert (found.key, found.unit, found.share) == ("lora-against-prefix", "unit", 1.0)
    assert (found.alpha, found.power) == (0.05, 0.8)
    assert (found.primary.better, found.guardrails[0].better) == ("up", "down")
    assert (found.analysis.kind, found.analysis.looks) == ("group-sequential", 4)


def test_every_problem_is_told_at_once(tmp_path):
    wrong = (
        LORA_AGAINST_PREFIX.replace('control = "prefix"', 'control = "prompt"\nalpha = 0.9')
        .replace("smallest_effect = 0.05", "smalest_effect = 0.05")
        .replace("margin = 0.02", "margin = 0")
        .replace("group-sequential", "daily")
    )
    with pytest.raises(SettingsError) as caught:
        read_experiment(written(tmp_path, wrong))
    told = str(caught.value)
    for problem in (
        "control: must be one of the arms prefix, lora, got 'prompt'",
        "alpha",
        "unknown key 'primary.smalest_effect'; did you mean 'smallest_effect'?",
        "'primary.smallest_effect' is required",
        "guardrails.0.margin",
        "analysis.kind: 'daily' is not known; known: group-sequential, sequential",
    ):
        assert problem in told
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('variant = "support-lora"', 'variant = "support-prefix"', "each arm needs another"),
        ("days = 28", "days = 3", "analysis.looks must be at most one a day, got 4 in 3 days"),
        ('[arms.lora]\nvariant = "support-lora"\nweight = 3', "", "arms"),
        ("[arms.lora]", '[arms."lora\\r\\nx-evil: 1"]', "arms"),
        ("[[guardrails]]", '[[guardrails]]\nmetric = "refused"\nmargin = 1\n[[guardrails]]',
         "each metric needs one guardrail, found more for refused"),
        ('name = "lora-against-prefix"', 'name = "other"', "the experiment is named 'other'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, old, new, problem):
    assert old in LORA_AGAINST_PREFIX
    with pytest.raises(SettingsError, match=problem):
        read_experiment(written(tmp_path, LORA_AGAINST_PREFIX.replace(old, new)))


def test_the_registration_covers_everything_that_was_declared(tmp_path):
    first = read_experiment(written(tmp_path))
    assert first.registration == read_experiment(written(tmp_path)).registration
    other = read_experiment(written(tmp_path, LORA_AGAINST_PREFIX.replace("0.05", "0.06")))
    assert other.registration != first.registration


def test_a_unit_is_what_the_experiment_says():
    caller = Caller(key="web shop", unit="user-1", conversation="c-1", tenant="acme")
    kinds = ("unit", "conversation", "tenant", "key")
    assert [unit_of(caller, kind) for kind in kinds] == ["user-1", "c-1", "acme", "web shop"]
    assert unit_of(Caller(), "unit") == ""


def test_every_setting_says_what_it_means():
    def fields(model):
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}", field.description

    found = dict(fields(ExperimentSettings))
    assert len(found) >= 13
    assert all(found.values())
