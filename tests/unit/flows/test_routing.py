"""The log of routing: who, when and what; what was stopped stays stopped after a crash."""

import json
from datetime import datetime

import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.routing import RoutingEvent
from kamerton.flows.routing import RoutingLog, new_router, route_source
from kamerton.serving.decisions import Stop
from tests.unit.experiments.test_settings import LORA_AGAINST_PREFIX
from tests.unit.serving.test_routing import SERVED, written


def change(what: str, name: str = "test-1", phase: str = "p1", arm: str = "lora") -> RoutingEvent:
    return RoutingEvent(
        what, "anna", name, {"name": name, "phase": phase, "arm": arm, "why": "№ 1"}
    )


def test_stops_are_read_back(tmp_path):
    log = RoutingLog(tmp_path / "routing.jsonl")
    assert log.stopped() == set()
    log.write(RoutingEvent("rules loaded", "start", detail={"version": "1"}))
    log.write(change("arm stopped"))
    log.write(change("arm stopped", arm="prefix"))
    log.write(change("arm resumed", arm="prefix"))
    log.write(change("canary stopped", "support", "support-lora", "canary"))
    assert log.stopped() == {
        Stop("test-1", "p1", "lora"),
        Stop("support", "support-lora", "canary", is_canary=True),
    }


def test_a_line_says_who_when_and_what(tmp_path):
    place = tmp_path / "routing.jsonl"
    RoutingLog(place).write(change("arm stopped"))
    said = json.loads(place.read_text())
    assert (said["by_whom"], said["what"], said["experiment"]) == ("anna", "arm stopped", "test-1")
    assert said["detail"]["why"] == "№ 1"
    assert datetime.fromisoformat(said["created"]).utcoffset().total_seconds() == 0


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path):
    place = tmp_path / "routing.jsonl"
    log = RoutingLog(place)
    log.write(change("arm stopped"))
    with place.open("a") as file:
        file.write('{"what": "arm resu')
    assert log.stopped() == {Stop("test-1", "p1", "lora")}
    log.write(change("arm resumed"))
    assert log.stopped() == set()


def test_a_restart_hides_no_change_of_arms(tmp_path):
    place = written(tmp_path)
    source = route_source(place, new_router(tmp_path), tmp_path, lambda: SERVED)
    source.reload("start")
    source.router.stop_arm("lora-against-prefix", "lora", by_whom="anna")
    again = route_source(place, new_router(tmp_path), tmp_path, lambda: SERVED)
    again.reload("start")
    assert again.router.stopped == source.router.stopped != set()
    written(tmp_path, experiment=LORA_AGAINST_PREFIX.replace("weight = 3", "weight = 4"))
    with pytest.raises(SettingsError, match="must stay as they were"):
        route_source(place, new_router(tmp_path), tmp_path, lambda: SERVED).reload("start")
