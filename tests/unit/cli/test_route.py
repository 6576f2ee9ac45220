"""`kamerton route explain` decides as the server does."""

import json

import pytest
from click.testing import CliRunner, Result

from kamerton.cli.route import route
from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller
from kamerton.flows.experiment.registering import start_experiment, stop_experiment
from kamerton.flows.routing import RoutingLog
from kamerton.serving.routes import read_rules
from kamerton.serving.routing import Router
from kamerton.store.database import open_store
from tests.unit.serving.test_routing import written


def explain(folder, *arguments: str) -> Result:
    given = ["explain", "--project", str(folder), *arguments]
    found = CliRunner().invoke(route, given, catch_exceptions=True)
    if isinstance(found.exception, SettingsError):
        raise found.exception
    return found


def test_it_says_which_rule_which_arm_and_why(tmp_path):
    written(tmp_path)
    said = explain(tmp_path, "support", "--unit", "user-2", "--language", "ru").stdout.splitlines()
    assert said[:4] == [
        "rule 1: no, segment is not said, not wholesale",
        "russian: no, tenant is not said, not acme or globex",
        "rule 3: no, key is not said, not lab",
        "default: experiment lora-against-prefix: arm lora (75.0%), support-lora",
    ]
    assert said[4:-1] == [
        "variant: support-lora",
        "reason: experiment",
        "experiment: lora-against-prefix",
        "arm: lora",
        "propensity: 0.75",
    ]
    assert said[-1].startswith("version of the rules: ")


def test_headers_are_read_as_the_server_reads_them(tmp_path):
    place = written(tmp_path)
    for arguments, variant, rule in (
        (("--header", "X-Kamerton-Segment: wholesale"), "prefix-wholesale", "rule 1"),
        (("--header", "accept-language: ru-RU,en;q=0.5", "--tenant", "acme"), "support-ru",
         "russian"),
        (("--key", "lab", "--header", "x-beta:1", "--unit", "user-2"), "support-lora", "rule 3"),
        (("--key", "lab", "--header", "x-beta:2"), "support-prefix", "default"),
    ):  # fmt: skip
        found = json.loads(explain(tmp_path, "support", "--json", *arguments).stdout)
        assert (found["variant"], found["rule"]) == (variant, rule)
    router = Router(read_rules(place))
    for number in range(20):
        found = json.loads(explain(tmp_path, "support", "--json", "--unit", f"u{number}").stdout)
        decision = router.decide("support", Caller(unit=f"u{number}"))
        assert (found["arm"], found["propensity"]) == (decision.arm, decision.propensity)


def test_a_ramp_is_told_for_a_moment_and_stops_are_known(tmp_path):
    written(tmp_path)
    for moment, variant in (
        ("2026-11-01", "support-prompt"), ("2026-12-04T00:00", "support-lora"),
    ):  # fmt: skip
        found = json.loads(explain(tmp_path, "new", "--json", "--unit", "u", "--at", moment).stdout)
        assert (found["variant"], found["shadows"]) == (variant, ["support-prefix"])
    log = RoutingLog(tmp_path / "routing.jsonl")
    router = Router(read_rules(tmp_path / "routes.toml"), audit=log.write)
    router.stop_canary("new", by_whom="anna")
    said = explain(tmp_path, "new", "--unit", "u", "--at", "2026-12-04").stdout
    assert said.splitlines()[0] == "default: support-prompt, as the canary support-lora is stopped"


def test_what_is_no_route_is_said(tmp_path):
    place = written(tmp_path)
    with pytest.raises(SettingsError, match="has no route 'supp0rt'; did you mean 'support'"):
        explain(tmp_path, "supp0rt", "--routes", str(place))
    assert "NAME:VALUE" in explain(tmp_path, "support", "--header", "nothing").output


def test_experiments_run_as_the_store_has_them(tmp_path):
    place = written(tmp_path)
    declared = read_rules(place).experiments["lora-against-prefix"]
    with open_store(tmp_path / "kamerton.db") as store:
        said = explain(tmp_path, "support", "--unit", "user-2").stdout
        assert "was not started" in said
        start_experiment(store, declared, 1000, 50.0)
        said = explain(tmp_path, "support", "--unit", "user-2").stdout
        assert "experiment: lora-against-prefix" in said
        stop_experiment(store, declared.name, promoted="lora")
        said = explain(tmp_path, "support").stdout
    assert "was stopped" in said
    assert f"variant: {declared.arms['lora'].variant}" in said
