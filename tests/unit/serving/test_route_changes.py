"""Rules that are replaced, and arms that are stopped, while requests are answered."""

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller, RoutingEvent, now_utc
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.serving.admin import make_admin_app
from kamerton.serving.decisions import Stop
from kamerton.serving.keys import plain_keys
from kamerton.serving.names import Names
from kamerton.serving.route_source import RouteSource
from kamerton.serving.routes import Rules, read_rules
from kamerton.serving.routing import Router
from kamerton.serving.switching import Switching
from tests.unit.experiments.test_settings import LORA_AGAINST_PREFIX
from tests.unit.serving.test_routing import ROUTES, SERVED, UNITS, routing_engine, written


class Log(list):
    """Changes as they come."""

    def changes(self) -> list[tuple[str, str]]:
        return [(event.what, event.by_whom) for event in self]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def source(tmp_path: Path, log: Log) -> RouteSource:
    router = Router(Rules(), audit=log.append)
    found = RouteSource(written(tmp_path), router, lambda: SERVED)
    found.reload("start")
    return found


def admin(source: RouteSource | None, folder: Path, **options) -> httpx.AsyncClient:
    engine = routing_engine()
    engine.names = Names(engine.models.values())
    switching = Switching(engine, folder, source.router if source else None)
    app = make_admin_app(switching, routes=source, **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")


def test_a_wrong_file_changes_nothing_and_says_why(tmp_path, source, log):
    before = source.router.rules
    written(tmp_path, ROUTES.replace('"support-ru"', '"support-fr"'))
    with pytest.raises(SettingsError, match="'support-fr' is not served"):
        source.reload("SIGHUP")
    assert source.router.rules is before
    written(tmp_path, ROUTES.replace("default =", "dfault ="))
    with pytest.raises(SettingsError):
        source.reload("SIGHUP")
    written(tmp_path, ROUTES.replace('"prefix-wholesale"', '"support-lora"'))
    source.reload("SIGHUP")
    assert source.router.decide("support", Caller(segment="wholesale")).variant == "support-lora"
    assert log.changes() == [
        ("rules loaded", "start"),
        ("rules refused", "SIGHUP"),
        ("rules refused", "SIGHUP"),
        ("rules loaded", "SIGHUP"),
    ]
    assert "'support-fr' is not served" in log[1].detail["problems"][0]
    assert log[1].detail["version"] == log[3].detail["before"] == before.version
    assert log[3].detail["version"] == source.router.rules.version


def test_units_of_a_stopped_arm_get_the_control_and_are_not_counted(source, log):
    router = source.router
    before = {unit: router.decide("support", Caller(unit=unit)) for unit in UNITS}
    router.stop_arm("lora-against-prefix", "lora", by_whom="guardrail refused", why="5 % worse")
    router.stop_arm("lora-against-prefix", "lora", by_whom="guardrail refused")
    for unit, was in before.items():
        now = router.decide("support", Caller(unit=unit))
        if was.arm == "lora":
            assert (now.variant, now.experiment, now.arm) == ("support-prefix", "", "")
        else:
            assert now == was
    router.resume_arm("lora-against-prefix", "lora", by_whom="anna")
    assert {unit: router.decide("support", Caller(unit=unit)) for unit in UNITS} == before
    assert log.changes()[1:] == [("arm stopped", "guardrail refused"), ("arm resumed", "anna")]
    stopped: RoutingEvent = log[1]
    assert stopped.experiment == "lora-against-prefix"
    assert (stopped.detail["arm"], stopped.detail["why"]) == ("lora", "5 % worse")


def test_a_new_phase_is_not_stopped(tmp_path, source):
    source.router.stop_arm("lora-against-prefix", "lora", by_whom="anna")
    salted = LORA_AGAINST_PREFIX.replace("min_units", 'salt = "second try"\nmin_units')
    written(tmp_path, experiment=salted)
    source.reload("SIGHUP")
    arms = {source.router.decide("support", Caller(unit=unit)).arm for unit in UNITS}
    assert arms == {"lora", "prefix"}
    assert "second try" not in str(source.router.stopped)


def test_a_canary_is_stopped(tmp_path, source, log):
    over = ROUTES.replace("2026-12-0", "2020-12-0")
    written(tmp_path, over)
    source.reload("SIGHUP")
    caller = Caller(unit="user-1")
    assert source.router.decide("new", caller).variant == "support-lora"
    source.router.stop_canary("new", by_whom="anna", why="slow")
    assert source.router.decide("new", caller).variant == "support-prompt"
    assert "is stopped" in source.router.explain("new", caller).steps[-1]
    # The next variant on the same route is not stopped.
    written(tmp_path, over.replace('variant = "support-lora"', 'variant = "support-ru"'))
    source.reload("SIGHUP")
    assert source.router.decide("new", caller).variant == "support-ru"
    written(tmp_path, over)
    source.reload("SIGHUP")
    source.router.resume_canary("new", by_whom="anna")
    assert source.router.decide("new", caller).variant == "support-lora"
    assert [what for what, _ in log.changes() if "canary" in what] == [
        "canary stopped", "canary resumed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "arm", "problem"),
    [
        ("lora-against-prompt", "lora", "no route has an experiment .* did you mean"),
        ("lora-against-prefix", "laro", "has no arm 'laro'"),
        ("lora-against-prefix", "prefix", "is the control"),
    ],
)
def test_only_arms_that_are_there_can_be_stopped(source, experiment, arm, problem):
    with pytest.raises(SettingsError, match=problem):
        source.router.stop_arm(experiment, arm, by_whom="anna")
    assert source.router.stopped == set()


def test_stops_are_given_back_to_a_router_that_starts_again(tmp_path, source):
    source.router.stop_arm("lora-against-prefix", "lora", by_whom="anna")
    again = Router(read_rules(tmp_path / "routes.toml"), stopped=source.router.stopped)
    for unit in UNITS[:200]:
        caller = Caller(unit=unit)
        assert again.decide("support", caller) == source.router.decide("support", caller)


def test_the_admin_api_reads_routes_again_and_stops_arms(tmp_path, source, log):
    async def go():
        client = admin(source, tmp_path, keys=plain_keys(["secret"], "admin"))
        assert (await client.post("/admin/routes/reload")).status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        before = (await client.get("/admin/routes")).json()
        assert before["version"] == source.router.rules.version
        assert before["routes"] == ["new", "support"]
        assert before["experiments"]["lora-against-prefix"]["control"] == "prefix"
        assert before["stopped"] == []

        written(tmp_path, ROUTES.replace('"prefix-wholesale"', '"gone"'))
        wrong = await client.post("/admin/routes/reload", json={})
        assert wrong.status_code == 400
        assert "'gone' is not served" in wrong.json()["error"]["message"]

        written(tmp_path, ROUTES.replace('"prefix-wholesale"', '"support-lora"'))
        dry = (await client.post("/admin/routes/reload", json={"dry_run": True})).json()
        assert (dry["changed"], dry["dry_run"]) == (True, True)
        assert source.router.rules.version == before["version"]
        wet = (await client.post("/admin/routes/reload")).json()
        assert wet == {"version": dry["version"], "changed": True, "dry_run": False}
        assert source.router.rules.version == wet["version"]

        arm = "/admin/experiments/lora-against-prefix/arms/lora"
        stopped = (await client.post(f"{arm}/stop", json={"why": "worse"})).json()["stopped"]
        assert [(one["name"], one["arm"]) for one in stopped] == [("lora-against-prefix", "lora")]
        assert (await client.post(f"{arm}/resume")).json()["stopped"] == []
        assert (await client.post(f"{arm}/explode")).status_code == 404
        assert (await client.post(f"{arm}x/stop")).status_code == 404
        assert (await client.post("/admin/routes/new/canary/stop")).status_code == 200
        assert (await client.post("/admin/routes/support/canary/stop")).status_code == 404
        page = await client.post(f"{arm}/stop", headers={"origin": "http://evil"})
        assert page.status_code == 403

    asyncio.run(go())
    assert log.changes()[1:] == [
        ("rules refused", "admin key 1"),
        ("rules loaded", "admin key 1"),
        ("arm stopped", "admin key 1"),
        ("arm resumed", "admin key 1"),
        ("canary stopped", "admin key 1"),
    ]
    assert source.router.stopped == {Stop("new", "support-lora", "canary", is_canary=True)}


def test_without_routes_the_admin_api_says_so(tmp_path):
    answer = asyncio.run(admin(None, tmp_path).get("/admin/routes"))
    assert answer.status_code == 404
    assert "--routes" in answer.json()["error"]["message"]


def test_names_of_routes_and_what_they_lead_to_stay(tmp_path, source):
    async def go():
        client = admin(source, tmp_path)
        unload = await client.delete("/admin/models/support-ru")
        assert unload.status_code == 409
        assert "routes lead to 'support-ru': support" in unload.json()["error"]["message"]
        put = await client.put("/admin/models/support", json={"path": "x"})
        assert put.status_code == 400
        assert "is a route" in put.json()["error"]["message"]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("weight = 3", "weight = 2", "arms, weights, control and unit must stay"),
        ('variant = "support-lora"', 'variant = "support-ru"', "arms, weights, control"),
        ('control = "prefix"', 'control = "lora"', "arms, weights, control"),
        ("min_units = 50", 'unit = "conversation"', "arms, weights, control"),
        ("share = 0.5", "share = 0.4", "share may only grow, found 0.4 after 0.5"),
    ],
)
def test_a_running_experiment_keeps_its_arms(tmp_path, log, old, new, problem):
    experiment = LORA_AGAINST_PREFIX.replace("min_units = 50", "min_units = 50\nshare = 0.5")
    assert old in experiment
    place = written(tmp_path, experiment=experiment)
    source = RouteSource(place, Router(Rules(), audit=log.append), lambda: SERVED)
    source.reload("start")
    changed = experiment.replace(old, new)
    written(tmp_path, experiment=changed)
    with pytest.raises(SettingsError, match=problem):
        source.reload("SIGHUP")
    # What does not touch the arms may change, and another salt gives arms anew.
    written(tmp_path, experiment=experiment.replace("0.05", "0.04").replace("0.5", "0.9"))
    source.reload("SIGHUP")
    written(tmp_path, experiment=changed.replace("hypothesis", 'salt = "two"\nhypothesis'))
    source.reload("SIGHUP")


def test_what_was_registered_is_what_runs(tmp_path, log):
    place = written(tmp_path)
    source = RouteSource(place, Router(Rules(), audit=log.append), lambda: SERVED)
    source.router.registered = {}
    source.reload("start")
    # It was not started: it may still change.
    written(tmp_path, experiment=LORA_AGAINST_PREFIX.replace("weight = 3", "weight = 2"))
    source.reload("SIGHUP")
    settings = source.router.rules.experiments["lora-against-prefix"]
    running = RegisteredExperiment(settings, "1", 100, 10.0, now_utc())
    source.router.registered = {settings.name: running}
    written(tmp_path, experiment=LORA_AGAINST_PREFIX)
    with pytest.raises(SettingsError, match="must stay as they were"):
        source.reload("SIGHUP")
    source.router.registered = {settings.name: replace(running, ended=now_utc())}
    source.reload("SIGHUP")
