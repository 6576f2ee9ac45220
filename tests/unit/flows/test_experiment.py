"""Live experiments from plan to stop, on made-up rows in a store."""

import json
from datetime import timedelta

import pytest

from kamerton.core.errors import SettingsError
from kamerton.experiments.simulate import Found
from kamerton.flows.experiment import simulating
from kamerton.flows.experiment.planning import Guess, measure_baseline, plan_experiment
from kamerton.flows.experiment.reading import find_registered, read_registered
from kamerton.flows.experiment.registering import (
    ensure_promotable,
    read_declared,
    start_experiment,
    stop_experiment,
)
from kamerton.flows.experiment.showing import plain_plan, plain_reading, plan_facts, progress
from kamerton.flows.experiment.simulating import simulate_experiment
from kamerton.store.database import open_store
from kamerton.store.experiments import experiment_events, experiment_rows
from kamerton.store.feedback import Feedback, add_feedback, latest_feedback
from kamerton.store.traffic import RequestRow, add_requests, now
from tests.unit.flows.experiment_traffic import METRICS, TONE, declared, fill, started

THIRD = TONE.replace("[primary]", '[arms.dpo]\nvariant = "shop-dpo"\nweight = 2\n[primary]')


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "kamerton.db") as opened:
        yield opened


def read(store, segments=""):
    with store.begin() as connection:
        one = find_registered(connection, "tone")
        return read_registered(connection, one, METRICS, segments=segments)


def planned(store, project, text=TONE, **guesses):
    declared(project, text)
    settings = read_declared("tone", project, METRICS)
    today = measure_baseline(
        store, settings, METRICS[settings.primary.metric], guess=Guess(**guesses)
    )
    return plan_experiment(settings, today, METRICS)


def test_a_plan_counts_with_recorded_traffic(store, tmp_path):
    fill(store, {"prefix": 200, "lora": 100}, in_experiment=False, thumbs={"prefix": 0.8})
    found = planned(store, tmp_path)
    today = found.baseline
    assert (today.num_requests, today.num_units, today.num_days) == (300, 300, 18)
    assert today.value == pytest.approx(0.8)
    assert today.variance == pytest.approx(0.16, rel=0.02)
    assert today.guessed == ()
    # One look needs 1,005 units of each arm; looking at any time costs 1.74 times as many.
    assert found.plan.units == pytest.approx(1.74 * 2 * 1005, rel=0.05)
    facts = dict(plan_facts(found))
    assert facts["thumbs of shop-prefix today"] == "80.0 %"
    assert facts["smallest effect"] == "5.0 points (up is better)"
    assert facts["recorded"] == "300 requests, 300 units in 18 days"


def test_a_plan_counts_with_guesses(store, tmp_path):
    found = planned(store, tmp_path, units_per_day=100, value=0.9)
    assert found.baseline.guessed == ("value", "units_per_day")
    assert found.baseline.variance == pytest.approx(0.09)
    assert found.plan.days == -(-found.plan.units // 100)
    assert dict(plan_facts(found))["thumbs of shop-prefix today"] == "90.0 % (a guess)"
    plain = json.loads(json.dumps(plain_plan(found)))
    assert plain["baseline"]["units_per_day"] == pytest.approx(100)
    assert plain["baseline"]["guessed"] == ["value", "units_per_day"]


def test_a_guardrail_counts_all_requests_and_the_metric_only_those_with_a_value(store, tmp_path):
    fill(store, {"prefix": 200}, in_experiment=False, rated={"prefix": 0.5})
    with store.begin() as connection:
        when = now() - timedelta(days=3)
        rows = [
            RequestRow(f"second-{each}", "shop-prefix", created=when, unit=f"u-prefix-{each}")
            for each in range(200)
        ]
        add_requests(connection, rows)
    found = planned(store, tmp_path)
    assert found.baseline.all_requests_per_unit == 2.0
    assert found.baseline.requests_per_unit == 1.0
    (guardrail,) = found.roll_backs
    assert guardrail.requests == 2 * guardrail.units
    said = dict(plan_facts(found))["requests of a unit"]
    assert said.startswith("2.0, 1.0 with thumbs, alike by ")


def test_a_plan_says_what_is_missing(store, tmp_path):
    with pytest.raises(SettingsError, match="no recorded units") as caught:
        planned(store, tmp_path)
    assert "--units-per-day" in caught.value.hint
    with pytest.raises(SettingsError, match="no recorded values of 'thumbs'"):
        planned(store, tmp_path, units_per_day=10)
    latency = TONE.replace('"thumbs"', '"latency"\nbetter = "down"')
    with pytest.raises(SettingsError, match="'latency' is a number"):
        planned(store, tmp_path, latency, units_per_day=10, value=0.5)


def test_planned_units_are_those_of_two_arms(store, tmp_path):
    units = THIRD + '[analysis]\nkind = "sequential"\nunits = 1000\n'
    assert planned(store, tmp_path, units, units_per_day=10, value=0.8).planned_units == 500
    days = THIRD + '[analysis]\nkind = "group-sequential"\ndays = 20\n'
    assert planned(store, tmp_path, days, units_per_day=10, value=0.8).planned_units == 100


def test_a_declared_experiment_names_what_is_wrong(tmp_path):
    with pytest.raises(SettingsError, match="is not there") as caught:
        read_declared("tone", tmp_path, METRICS)
    assert "docs/live.md" in caught.value.hint
    declared(tmp_path)
    with pytest.raises(SettingsError, match="did you mean 'tone'"):
        read_declared("tome", tmp_path, METRICS)
    declared(tmp_path, TONE.replace('"thumbs"', '"tumbs"'))
    with pytest.raises(SettingsError, match="primary.metric: 'tumbs' is no metric"):
        read_declared("tone", tmp_path, METRICS)


def test_what_is_registered_stays(store, tmp_path):
    first = started(store, tmp_path)
    declared(tmp_path, TONE.replace("0.05", "0.1"))
    changed = read_declared("tone", tmp_path, METRICS)
    with pytest.raises(SettingsError, match="'tone' runs already"):
        start_experiment(store, changed, 10, 1.0)
    with store.begin() as connection:
        found = find_registered(connection, "tone")
        (event,) = experiment_events(connection, "tone")
        (row,) = experiment_rows(connection, "tone")
    assert found.settings.primary.smallest_effect == 0.05
    assert found.version == first.version == first.registration[:16]
    assert row.settings["registration"] == first.registration == found.settings.registration
    assert (event.what, event.detail["registration"]) == ("started", first.registration)
    assert found.history == (event,)
    stop_experiment(store, "tone")
    with pytest.raises(SettingsError, match="'tone' was stopped already"):
        start_experiment(store, changed, 10, 1.0)


def test_a_better_arm_is_promoted(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 800, "lora": 800}, thumbs={"prefix": 0.7, "lora": 0.9})
    found = read(store)
    (arm,) = found.arms
    verdicts = {one.measure.name: one.verdict for one in arm.metrics}
    assert verdicts == {
        "thumbs": "better",
        "cost": "better",
        "latency": "better",
        "refusal": "undecided",
    }
    assert arm.metrics[0].effect.difference == pytest.approx(0.2)
    assert arm.metrics[1].relative == pytest.approx(-0.4, abs=0.01)
    assert (arm.decision, arm.guardrails[0].verdict) == ("promote", "fine")
    ensure_promotable(found, "lora")
    with store.begin() as connection:
        one = find_registered(connection, "tone")
    assert progress(one, found) == 1600 / one.planned_units
    plain = json.loads(json.dumps(plain_reading(one, found, {("tone", one.settings.phase): {"x"}})))
    assert plain["registered"]["decisions"] == {"lora": "promote"}
    assert plain["registered"]["stopped_arms"] == ["x"]
    assert plain["arms"][0]["metrics"][0]["verdict"] == "better"
    assert plain["num_units"] == [800, 800]


def test_an_alarm_hides_effects(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 600, "lora": 300}, thumbs={"prefix": 0.7, "lora": 0.9})
    found = read(store)
    assert found.sample_ratio.fired
    assert found.num_units == (600, 300)
    (arm,) = found.arms
    assert arm.decision == "investigate"
    assert {one.verdict for one in arm.metrics} == {"hidden"}
    assert all(one.effect is None for one in arm.metrics)
    with pytest.raises(SettingsError, match="'investigate' of the arm 'lora'"):
        ensure_promotable(found, "lora")


def test_units_in_two_arms_are_left_out(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 100, "lora": 100})
    with store.begin() as connection:
        when = now() - timedelta(days=1)
        add_requests(connection, [
            RequestRow("again", "shop-lora", created=when, experiment="tone", arm="lora",
                       unit="u-prefix-0"),
            # Nobody can say whose this is, and another one is of no arm.
            RequestRow("nobody", "shop-lora", created=when, experiment="tone", arm="lora"),
            RequestRow("none", "shop-lora", created=when, experiment="tone", arm="x", unit="y"),
        ])  # fmt: skip
    found = read(store)
    assert found.num_in_two_arms == 1
    assert found.arms[0].metrics[2].effect.units == (99, 100)


def test_an_arm_that_is_rated_less_often_is_told(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 400, "lora": 400}, rated={"prefix": 0.8, "lora": 0.3})
    missing = read(store).arms[0].missing["thumbs"]
    assert not missing.comparable
    assert missing.rate.difference == pytest.approx(-0.5, abs=0.01)
    assert missing.interval.low < -0.6
    assert missing.interval.high > 0.2


def test_a_metric_without_values_is_undecided(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 200, "lora": 200}, rated={"prefix": 0.0, "lora": 0.0})
    (arm,) = read(store).arms
    assert (arm.metrics[0].verdict, arm.metrics[0].effect) == ("undecided", None)
    assert arm.decision == "go on"


def test_segments_are_exploratory(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 400, "lora": 400})
    segments = read(store, "segment").arms[0].segments
    assert [one.segment for one in segments] == ["retail", "wholesale"]
    assert all(one.exploratory and one.p_corrected is not None for one in segments)
    assert read(store).arms[0].segments == ()


def test_history_before_the_start_makes_intervals_narrower(store, tmp_path):
    started(store, tmp_path, days_ago=10)
    fill(store, {"prefix": 300, "lora": 300}, days_ago=9, days=8)
    with store.begin() as connection:
        ids = [f"u-{arm}-{each}" for arm in ("prefix", "lora") for each in range(300)]
        before = now() - timedelta(days=15)
        add_requests(
            connection,
            [RequestRow(f"before-{one}", "shop-prefix", created=before, unit=one) for one in ids],
        )
        now_rated = {one.completion_id: one.value for one in latest_feedback(connection)}
        for one in ids:
            add_feedback(connection, Feedback(f"before-{one}", "thumbs", now_rated[one]))
    effect = read(store).arms[0].metrics[0].effect
    assert effect.explained > 0.95


def test_nothing_is_read_before_the_first_request(store, tmp_path):
    started(store, tmp_path)
    assert read(store) is None
    with pytest.raises(SettingsError, match="no request has come"):
        ensure_promotable(None, "lora")
    with store.begin() as connection, pytest.raises(SettingsError, match="did you mean 'tone'"):
        find_registered(connection, "tome")


def test_a_stopped_experiment_counts_nothing_more(store, tmp_path):
    started(store, tmp_path)
    fill(store, {"prefix": 100, "lora": 100})
    with pytest.raises(SettingsError, match="has no arm 'lore'; did you mean 'lora'"):
        stop_experiment(store, "tone", promoted="lore")
    stopped = stop_experiment(store, "tone", promoted="lora", why="cheaper")
    assert (stopped.is_running, stopped.answering) == (False, "shop-lora")
    last = stopped.history[-1]
    assert last.what == "stopped"
    assert last.detail == {
        "registration": stopped.registration,
        "promoted": "lora",
        "why": "cheaper",
    }
    before = read(store)
    assert before.ended
    fill(store, {"prefix": 50, "lora": 50}, days_ago=-0.1, days=0.1, prefix="late")
    assert read(store).num_units == before.num_units
    with pytest.raises(SettingsError, match="was stopped on") as caught:
        stop_experiment(store, "tone")
    assert "'shop-lora' answers all units" in caught.value.hint


def test_an_experiment_stopped_without_promotion_gives_the_control(store, tmp_path):
    started(store, tmp_path)
    assert stop_experiment(store, "tone").answering == "shop-prefix"


def test_simulated_experiments_see_a_large_difference_and_no_false_one(store, tmp_path):
    large = TONE.replace("smallest_effect = 0.05", "smallest_effect = 0.15")
    found = planned(store, tmp_path, large, units_per_day=60, value=0.8)
    none, effect = simulate_experiment(found, 20, 14)
    assert none.truth == "no difference"
    assert none.by_unit <= 0.1
    assert effect.by_unit > 0.8
    assert none.days == 14


def test_a_simulation_has_the_units_and_alpha_of_two_of_three_arms(store, tmp_path, monkeypatch):
    given = []

    def simulate_rules(traffic, runs, **options):
        given.append((traffic, options))
        options["report"](runs)
        return dict.fromkeys(("sequence", "group", simulating.BY_REQUEST), Found(0.0, 1.0, 1.0))

    monkeypatch.setattr(simulating, "simulate_rules", simulate_rules)
    text = THIRD + '[analysis]\nkind = "group-sequential"\ndays = 20\nlooks = 2\n'
    found = planned(store, tmp_path, text, units_per_day=40, value=0.8)
    told = []
    lines = simulate_experiment(found, 20, 7, told.append)
    (traffic, options), _ = given
    assert [(event.done, event.total) for event in told] == [(20, 40), (40, 40)]
    assert (traffic.units_per_day, traffic.days, traffic.share) == (20, 20, 0.5)
    assert (options["alpha"], options["looks"]) == (0.025, 2)
    assert [line.days for line in lines] == [20, 20]


def test_only_a_share_is_simulated(store, tmp_path):
    found = planned(store, tmp_path, units_per_day=60, value=0.97)
    with pytest.raises(SettingsError, match="or 1.02 with the smallest effect"):
        simulate_experiment(found, 20, 14)
