"""Experiments whose shares follow the outcomes, through the router, the keeper and the store."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from kamerton.cli.experiment import experiment
from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller
from kamerton.flows.experiment.keeper import ExperimentKeeper
from kamerton.flows.experiment.registering import read_declared, start_experiment
from kamerton.flows.routing import new_router
from kamerton.serving.adaptive import AdaptiveArms
from kamerton.serving.exposures import Exposures, exposure_of
from kamerton.serving.routes import read_rules
from kamerton.store.database import open_store
from kamerton.store.feedback import Feedback, add_feedback
from kamerton.store.traffic import RequestRow, add_exposures, add_requests, exposures_of
from tests.unit.flows.experiment_traffic import METRICS, declared

TRUE = {"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.3, "e": 0.7}
ARMS = "".join(f'[arms.{arm}]\nvariant = "v-{arm}"\n' for arm in TRUE)
PRIMARY = '[primary]\nmetric = "thumbs"\nsmallest_effect = 0.05\n'
TEXT = f'name = "tone"\ncontrol = "a"\nshares = "adaptive"\n{ARMS}{PRIMARY}'


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "kamerton.db") as opened:
        yield opened


def served(project):
    place = project / "routes.toml"
    place.write_text('[route.shop]\ndefault = "v-a"\nexperiment = "tone"\n')
    router = new_router(project)
    router.load(read_rules(place), "test")
    return router


def began(store, project):
    declared(project, TEXT)
    start_experiment(store, read_declared("tone", project, METRICS), 200, 1.0)


def keeper_of(store, router):
    return ExperimentKeeper(store, router, METRICS, every_s=0.0, shares_every_s=0.0)


def serve_batch(store, router, batch, number=150):
    """Decide, expose, answer and rate one request of each new unit."""
    rows, ratings, exposed = [], [], []
    exposures = Exposures(exposed.append)
    for each in range(number):
        caller = Caller(unit=f"{batch}-{each}")
        found = router.decide("shop", caller)
        exposures.note(exposure_of(router.rules, found, caller))
        rows.append(
            RequestRow(
                caller.unit,
                found.variant,
                experiment=found.experiment,
                arm=found.arm,
                propensity=found.propensity,
                unit=caller.unit,
            )
        )
        good = (each * 37) % 100 < TRUE[found.arm] * 100
        ratings.append(Feedback(caller.unit, "thumbs", float(good)))
    with store.begin() as connection:
        add_requests(connection, rows)
        add_exposures(connection, exposed)
        for one in ratings:
            add_feedback(connection, one)


def test_shares_move_to_the_better_arm_and_units_keep_theirs(store, tmp_path):
    began(store, tmp_path)
    router = served(tmp_path)
    keeper = keeper_of(store, router)
    asyncio.run(keeper.look())
    assert router.adaptive.shares["tone"] == pytest.approx(dict.fromkeys(TRUE, 0.2), abs=1e-6)
    given = []
    for batch in range(3):
        given.append(dict(router.adaptive.shares["tone"]))
        serve_batch(store, router, batch)
        asyncio.run(keeper.look())
    shares = router.adaptive.shares["tone"]
    assert max(shares, key=shares.get) == "e"
    assert shares["e"] > 0.9
    assert min(shares.values()) >= 0.01 - 1e-12
    assert sum(shares.values()) == pytest.approx(1)
    with store.begin() as connection:
        exposed = exposures_of(connection, "tone")
    assert len(exposed) == 450
    for one in exposed:
        batch, _ = one.unit.split("-")
        assert one.propensity == pytest.approx(given[int(batch)][one.arm], rel=1e-9)
    # Another server with the same store: by today's shares alone many units would move.
    again = served(tmp_path)
    asyncio.run(keeper_of(store, again).look())
    for one in exposed:
        found = again.decide("shop", Caller(unit=one.unit))
        assert (found.arm, found.propensity) == (one.arm, one.propensity)
    again.adaptive = AdaptiveArms(dict(shares))
    fresh = [again.decide("shop", Caller(unit=one.unit)).arm for one in exposed]
    assert sum(new != one.arm for new, one in zip(fresh, exposed, strict=True)) > 100


def test_a_unit_is_found_under_its_stored_id_and_few_are_remembered(store, tmp_path):
    began(store, tmp_path)
    settings = read_declared("tone", tmp_path, METRICS)
    arms = AdaptiveArms({"tone": dict.fromkeys(TRUE, 0.2)}, str.upper, most_remembered=2)
    first = arms.arm_of(settings, "u")
    other = next(arm for arm in TRUE if arm != first.arm)
    arms.shares["tone"] = {other: 1.0}
    assert arms.arm_of(settings, "u") == first
    assert ("tone", "U") in arms._kept
    arms.arm_of(settings, "v")
    arms.arm_of(settings, "w")
    assert arms.arm_of(settings, "u").arm == other


def test_shares_change_at_most_once_a_minute(store, tmp_path):
    began(store, tmp_path)
    router = served(tmp_path)
    keeper = ExperimentKeeper(store, router, METRICS)
    asyncio.run(keeper.look())
    serve_batch(store, router, 0)
    asyncio.run(keeper.look())
    assert router.adaptive.shares["tone"]["e"] == pytest.approx(0.2, abs=1e-6)


def test_wrong_settings_are_told_together(tmp_path):
    few = TEXT.replace('[arms.e]\nvariant = "v-e"\n', "").replace('"v-b"', '"v-b"\nweight = 2')
    declared(tmp_path, few)
    with pytest.raises(SettingsError) as caught:
        read_declared("tone", tmp_path, METRICS)
    assert "needs at least 5 arms, got 4; it needs equal weights" in str(caught.value)
    declared(tmp_path, TEXT.replace("thumbs", "latency"))
    with pytest.raises(SettingsError, match="'latency' is not yes or no"):
        read_declared("tone", tmp_path, METRICS)


def test_the_report_tells_the_best_arm_and_there_is_no_plan(store, tmp_path):
    declared(tmp_path, TEXT)
    where = ["--project", str(tmp_path), "--store", str(tmp_path / "kamerton.db")]

    def told(*words):
        return CliRunner().invoke(experiment, [*words, *where])

    assert told("start", "tone").exit_code == 0
    router = served(tmp_path)
    asyncio.run(keeper_of(store, router).look())
    serve_batch(store, router, 0)
    plain = json.loads(told("report", "tone", "--json").stdout)
    by_arm = {one["arm"]: one for one in plain["arms"]}
    assert sum(one["units"] for one in by_arm.values()) == 150
    assert by_arm["e"]["estimate"] == pytest.approx(0.7, abs=0.2)
    assert plain["verdict"].startswith("best arm so far: e, with probability")
    words = told("report", "tone").output
    assert "best arm so far: e" in words
    assert "sample-ratio test is off" in words
    page = told("report", "tone", "--html", str(tmp_path / "page.html"))
    assert "its report has no --html" in str(page.exception)
    assert "so there is no forecast of days" in str(told("plan", "tone").exception)
    assert "no verdict 'promote'" in str(told("stop", "tone", "--promote", "e").exception)
    assert "adaptive shares" in told("status").output
    (state,) = json.loads(told("status", "--json").stdout)
    assert (state["comparable"], state["decisions"]) == (None, {})
