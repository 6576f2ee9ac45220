"""`kamerton experiment` from plan to stop."""

import json

import pytest
from click.testing import CliRunner, Result

from kamerton.cli.experiment import experiment
from kamerton.core.errors import SettingsError
from kamerton.core.language import speaking
from kamerton.flows.routing import new_router
from kamerton.serving.routes import read_rules
from kamerton.store.database import open_store
from kamerton.store.experiments import experiment_events
from tests.unit.flows.experiment_traffic import TONE, declared, fill, started


def said(folder, *arguments: str) -> Result:
    given = [*arguments, "--project", str(folder)]
    found = CliRunner().invoke(experiment, given, catch_exceptions=True)
    if isinstance(found.exception, SettingsError):
        raise found.exception
    assert found.exception is None, found.output
    return found


def rows(result: Result) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in result.stdout.splitlines()
    ]


@pytest.fixture
def project(tmp_path):
    """An experiment that runs since 20 days, with a better arm."""
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 500, "lora": 500}, thumbs={"prefix": 0.6, "lora": 0.9})
    return tmp_path


def test_plan_and_start(tmp_path):
    declared(tmp_path)
    with pytest.raises(SettingsError, match="no recorded units"):
        said(tmp_path, "plan", "tone")
    guesses = ("--units-per-day", "100", "--baseline", "0.8")
    found = said(tmp_path, "plan", "tone", *guesses)
    assert ["thumbs of shop-prefix today", "80.0 % (a guess)"] in rows(found)
    assert ["new units a day", "100.0 (a guess)"] in rows(found)
    assert "does not decide this within 28 days" in found.stderr
    found = said(tmp_path, "plan", "tone", *guesses, "--days", "60")
    assert "decides this in about 35 days" in found.stderr
    plain = json.loads(said(tmp_path, "plan", "tone", *guesses, "--json").stdout)
    assert (plain["experiment"], plain["plan"]["days"]) == ("tone", 35)
    assert plain["planned_units"] == plain["plan"]["units"]

    assert said(tmp_path, "status").stdout == ""
    found = said(tmp_path, "start", "tone", *guesses)
    assert "'tone' runs since" in found.stderr
    with pytest.raises(SettingsError, match="runs already"):
        said(tmp_path, "start", "tone", *guesses)
    with pytest.raises(SettingsError, match="no request has come to 'tone'"):
        said(tmp_path, "report", "tone")
    (line,) = rows(said(tmp_path, "status"))[1:]
    assert line == ["tone", "runs", "0.0", "0", "0%", "no request yet"]


def test_a_number_is_guessed_with_its_deviation(tmp_path):
    declared(tmp_path, TONE.replace('metric = "thumbs"', 'metric = "rating"'))
    guesses = ("--units-per-day", "100", "--baseline", "4.1")
    with pytest.raises(SettingsError, match="--baseline and --deviation go together"):
        said(tmp_path, "plan", "tone", *guesses)
    found = said(tmp_path, "plan", "tone", *guesses, "--deviation", "1", "--json")
    assert json.loads(found.stdout)["baseline"]["variance"] == 1.0


def test_status_says_what_is_known(project):
    header, line = rows(said(project, "status"))
    assert header == ["experiment", "state", "days", "units", "of planned", "known so far"]
    assert line[:4] == ["tone", "runs", "20.0", "500 / 500"]
    assert line[5] == "lora: quality better, 40 % cheaper, 33 % faster"
    (plain,) = json.loads(said(project, "status", "--json").stdout)
    assert (plain["running"], plain["comparable"]) == (True, True)
    assert plain["decisions"] == {"lora": "promote"}
    assert len(plain["registration"]) == 64


def test_report_has_a_column_for_each_arm(project):
    found = said(project, "report", "tone")
    header, thumbs, *_ = rows(found)
    assert header == [
        "metric", "prefix (control)", "lora", "difference", "interval", "relative", "verdict",
    ]  # fmt: skip
    assert thumbs[:4] == ["thumbs", "60.0 %", "90.0 %", "+30.0 points"]
    assert thumbs[5:] == ["+50 %", "better"]
    assert "lora: promote (quality better, 40 % cheaper, 33 % faster)" in found.stderr
    assert "refusal of lora: fine" in found.stderr
    russian = said(project, "report", "tone", "--language", "ru").stderr
    assert "lora: переходить (качество: лучше, на 40 % дешевле, на 33 % быстрее)" in russian
    with speaking("ru"):
        found = said(project, "report", "tone")
    assert rows(found)[1][:4] == ["thumbs", "60.0 %", "90.0 %", "+30.0 points"]
    assert "lora: переходить (качество: лучше, " in found.stderr
    plain = json.loads(said(project, "report", "tone", "--json").stdout)
    assert plain["registered"]["experiment"] == "tone"
    assert plain["arms"][0]["decision"] == "promote"


def test_report_by_segment(project):
    found = rows(said(project, "report", "tone", "--by", "segment"))
    assert [line[0] for line in found[-2:]] == ["thumbs [retail]", "thumbs [wholesale]"]
    assert found[-1][-1].endswith("(exploratory)")


def test_report_of_three_arms_has_a_table_for_each(tmp_path):
    text = TONE.replace("[primary]", '[arms.dpo]\nvariant = "shop-dpo"\n[primary]')
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path, text=text)
        fill(store, {"prefix": 60, "lora": 60, "dpo": 60})
    found = said(tmp_path, "report", "tone")
    headers = [line[2] for line in rows(found) if line and line[0] == "metric"]
    assert headers == ["lora", "dpo"]
    assert "units: prefix 60, lora 60, dpo 60; planned are" in found.stderr


def test_report_hides_effects_of_arms_that_are_not_comparable(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 600, "lora": 300}, thumbs={"prefix": 0.6, "lora": 0.9})
    found = said(tmp_path, "report", "tone")
    assert "the arms are not comparable: 600 / 300 units, and 450 / 450 were planned" in (
        found.stderr
    )
    assert rows(found)[1] == ["thumbs", "-", "-", "-", "-", "-", "hidden"]
    assert "refusal of lora: undecided (not known, 5.0 points worse is allowed)" in found.stderr
    assert rows(said(tmp_path, "status"))[1][-1] == "the arms are not comparable"


def test_report_tells_of_missing_ratings_and_of_stopped_arms(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 400, "lora": 400}, rated={"prefix": 0.8, "lora": 0.3})
    (tmp_path / "routes.toml").write_text(
        '[route.shop]\ndefault = "shop-prefix"\nexperiment = "tone"\n'
    )
    router = new_router(tmp_path)
    router.load(read_rules(tmp_path / "routes.toml"), "test")
    router.stop_arm("tone", "lora", by_whom="ann")
    found = said(tmp_path, "report", "tone")
    assert "80.0 % of the control's answers are rated, and 30.0 % of those of 'lora'" in (
        found.stderr
    )
    assert found.stderr.rstrip().endswith("; the arm was stopped)")
    assert rows(said(tmp_path, "status"))[1][-1] == "lora: stopped"


def test_stop_promotes_only_what_the_numbers_speak_for(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 100, "lora": 100})
    with pytest.raises(SettingsError, match="the numbers say 'go on' of the arm 'lora'") as caught:
        said(tmp_path, "stop", "tone", "--promote", "lora")
    assert "--anyway" in caught.value.hint
    with pytest.raises(SettingsError, match="no arm 'lore'"):
        said(tmp_path, "stop", "tone", "--promote", "lore")
    found = said(tmp_path, "stop", "tone", "--promote", "lora", "--anyway", "--why", "cheaper")
    assert "'shop-lora' answers all units" in found.stderr
    with open_store(tmp_path / "kamerton.db") as store, store.begin() as connection:
        last = experiment_events(connection, "tone")[-1]
    assert (last.detail["promoted"], last.detail["why"]) == ("lora", "cheaper")
    assert rows(said(tmp_path, "status"))[1][1] == "stopped, shop-lora answers"


def test_stop_promotes_a_better_arm(project):
    assert "'shop-lora' answers" in said(project, "stop", "tone", "--promote", "lora").stderr
    with pytest.raises(SettingsError, match="was stopped on"):
        said(project, "stop", "tone", "--promote", "lora")


def test_simulate_says_how_often_a_difference_is_seen(tmp_path):
    declared(tmp_path, TONE.replace("smallest_effect = 0.05", "smallest_effect = 0.15"))
    guesses = ("--units-per-day", "60", "--baseline", "0.8", "--runs", "20", "--days", "10")
    found = said(tmp_path, "simulate", "tone", *guesses)
    assert [line[0] for line in rows(found)] == [
        "what is true",
        "no difference",
        "the smallest effect",
    ]
    assert "share of 20 experiments of 10 days" in found.stderr
