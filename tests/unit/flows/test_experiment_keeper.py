"""The keeper: which experiments run, and which arm does harm."""

import asyncio
import json
from dataclasses import replace

import pytest

from kamerton.core.errors import StoreError
from kamerton.core.routing import Caller
from kamerton.flows.experiment.keeper import ExperimentKeeper, Harm
from kamerton.flows.experiment.registering import stop_experiment
from kamerton.flows.experiment.showing import stopped_arms
from kamerton.flows.routing import new_router
from kamerton.serving.routes import read_rules
from kamerton.store.database import open_store
from kamerton.store.experiments import experiment_events
from tests.unit.flows.experiment_traffic import METRICS, declared, fill, started

ROUTES = '[route.shop]\ndefault = "shop-prefix"\nexperiment = "tone"\n'


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "kamerton.db") as opened:
        yield opened


@pytest.fixture
def router(tmp_path):
    declared(tmp_path)
    place = tmp_path / "routes.toml"
    place.write_text(ROUTES)
    made = new_router(tmp_path)
    made.load(read_rules(place), "test")
    return made


@pytest.fixture
def told():
    return []


@pytest.fixture
def keeper(store, router, told):
    return ExperimentKeeper(store, router, METRICS, told.append, every_s=0.0)


def asked(router, number=200):
    decisions = [router.decide("shop", Caller(unit=f"unit-{each}")) for each in range(number)]
    return {(one.variant, one.arm, one.reason) for one in decisions}


def changes(project):
    lines = (project / "routing.jsonl").read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["what"].startswith("arm")]


def events(store):
    with store.begin() as connection:
        return experiment_events(connection, "tone")


HARM = {"prefix": 0.02, "lora": 0.3}


def test_only_what_was_started_assigns_units(store, tmp_path, router, keeper):
    asyncio.run(keeper.look())
    assert asked(router) == {("shop-prefix", "", "default")}
    started(store, tmp_path, days_ago=0)
    asyncio.run(keeper.look())
    assert asked(router) == {
        ("shop-prefix", "prefix", "experiment"),
        ("shop-lora", "lora", "experiment"),
    }
    stop_experiment(store, "tone", promoted="lora")
    asyncio.run(keeper.look())
    assert asked(router) == {("shop-lora", "", "default")}


def test_a_harmful_arm_is_stopped_once(store, tmp_path, router, keeper, told):
    started(store, tmp_path)
    fill(store, {"prefix": 200, "lora": 200}, refusals=HARM)
    for _ in range(3):
        asyncio.run(keeper.look())
    assert asked(router) == {
        ("shop-prefix", "prefix", "experiment"),
        ("shop-prefix", "", "default"),
    }
    (line,) = changes(tmp_path)
    assert (line["what"], line["by_whom"], line["experiment"]) == (
        "arm stopped",
        "guardrail refusal",
        "tone",
    )
    assert line["detail"]["why"] == "refusal is 0.28 worse, and 0.05 is allowed"
    first, second = events(store)
    assert (first.what, second.what) == ("started", "arm stopped")
    assert second.by_whom == "guardrail refusal"
    assert (second.detail["arm"], second.detail["why"]) == ("lora", line["detail"]["why"])
    (notice,) = told
    assert "the arm 'lora' was stopped, as refusal is 0.28 worse" in notice.message
    assert set().union(*stopped_arms(tmp_path).values()) == {"lora"}


def test_a_stop_outlives_the_server(store, tmp_path, router, keeper, told):
    started(store, tmp_path)
    fill(store, {"prefix": 200, "lora": 200}, refusals=HARM)
    asyncio.run(keeper.look())
    again = new_router(tmp_path)
    again.load(router.rules, "test")
    asyncio.run(ExperimentKeeper(store, again, METRICS, told.append).look())
    assert ("shop-lora", "lora", "experiment") not in asked(again)
    assert len(told) == len(changes(tmp_path)) == 1
    assert len(events(store)) == 2


def test_a_harmless_arm_goes_on(store, tmp_path, router, keeper, told):
    started(store, tmp_path)
    fill(store, {"prefix": 150, "lora": 150}, refusals={"prefix": 0.04, "lora": 0.06})
    asyncio.run(keeper.look())
    assert ("shop-lora", "lora", "experiment") in asked(router)
    assert told == []
    assert changes(tmp_path) == []


def test_harm_is_stopped_where_the_arms_are_not_comparable(store, tmp_path, keeper, told):
    started(store, tmp_path)
    fill(store, {"prefix": 600, "lora": 300}, refusals=HARM)
    asyncio.run(keeper.look())
    # The size is an effect, and effects are hidden.
    assert changes(tmp_path)[0]["detail"]["why"] == "refusal is more than the allowed 0.05 worse"


def test_what_people_do_is_in_the_store_too(store, tmp_path, router, keeper):
    started(store, tmp_path, days_ago=0)
    asyncio.run(keeper.look())
    router.stop_arm("tone", "lora", by_whom="ann", why="a typo")
    router.resume_arm("tone", "lora", by_whom="ann")

    async def twice():
        await asyncio.gather(keeper.write_changes(), keeper.write_changes())

    asyncio.run(twice())
    assert [(one.what, one.by_whom) for one in events(store)[1:]] == [
        ("arm stopped", "ann"),
        ("arm resumed", "ann"),
    ]


def test_a_store_that_is_away_changes_nothing(store, tmp_path, router, keeper, told, monkeypatch):
    started(store, tmp_path, days_ago=0)
    asyncio.run(keeper.look())
    before = asked(router)
    working = store.begin

    def begin():
        raise StoreError("the store is away")

    async def keep(seconds):
        keeping = asyncio.create_task(keeper.keep())
        await asyncio.sleep(seconds)
        keeping.cancel()

    monkeypatch.setattr(store, "begin", begin)
    router.stop_arm("tone", "lora", by_whom="ann")
    router.resume_arm("tone", "lora", by_whom="ann")
    asyncio.run(keep(0.2))
    assert asked(router) == before
    # It is said once, not at every look.
    assert [one.message for one in told] == ["experiments cannot be looked at: the store is away"]
    monkeypatch.setattr(store, "begin", working)
    asyncio.run(keeper.look())
    assert [one.what for one in events(store)] == ["started", "arm stopped", "arm resumed"]


def test_an_arm_that_the_registration_does_not_have_is_no_error(store, tmp_path, router, keeper):
    started(store, tmp_path)
    fill(store, {"prefix": 200, "lora": 200}, refusals=HARM)
    place = tmp_path / "routes.toml"
    place.write_text('[route.shop]\ndefault = "shop-prefix"\n')
    router.load(read_rules(place), "test")
    asyncio.run(keeper.look())
    assert router.stopped == set()


def test_the_reason_names_the_size():
    assert Harm("tone", "lora", "error", 0.1234, 0.02).why == (
        "error is 0.123 worse, and 0.02 is allowed"
    )


def test_an_experiment_that_cannot_be_read_leaves_the_others_guarded(
    store, tmp_path, router, keeper, monkeypatch
):
    started(store, tmp_path)
    fill(store, {"prefix": 200, "lora": 200}, refusals=HARM)
    whole, tone = keeper._harms, keeper._registered()["tone"]
    broken = replace(tone, settings=tone.settings.model_copy(update={"name": "broken"}))

    def harms(experiment):
        if experiment is broken:
            raise KeyError("a metric that is gone")
        return whole(experiment)

    monkeypatch.setattr(keeper, "_harms", harms)
    monkeypatch.setattr(keeper, "_registered", lambda: {"broken": broken, "tone": tone})
    both = {**router.rules.experiments, "broken": broken.settings}
    router.rules = replace(router.rules, experiments=both)
    with pytest.raises(KeyError, match="a metric that is gone"):
        asyncio.run(keeper.look())
    assert [line["experiment"] for line in changes(tmp_path)] == ["tone"]
    assert [event.what for event in events(store)] == ["started", "arm stopped"]
