"""Routes as a user has them: a file, a server that is killed and started again, SIGHUP."""

import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.project import make_project
from tests.e2e.test_serve import QUESTION, Server, serving
from tests.e2e.training import train_in

ROUTES = """
[route.support]
default = "one"
rules = [{ segment = "wholesale", variant = "two" }]
experiment = "one-against-two"
shadow = ["builtin:nano"]
"""
EXPERIMENT = """
name = "one-against-two"
control = "one"
arms = { one = { variant = "one" }, two = { variant = "two" } }
primary = { metric = "rating", smallest_effect = 0.1 }
"""
UNITS = [f"user-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routed")
    make_project(folder, num_rows=16)
    for name in ("one", "two"):
        train_in(folder, (f"name={name}", "adapter.kind=none", f'prompt.system="You are {name}."'))
    (folder / "experiments").mkdir()
    (folder / "experiments" / "one-against-two.toml").write_text(EXPERIMENT)
    (folder / "routes.toml").write_text(ROUTES)
    return folder


def ask(server: Server, **headers: str) -> dict[str, str]:
    body = {"model": "support", "messages": QUESTION, "max_tokens": 4}
    answer = httpx.post(f"{server.address}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    names = ("variant", "route", "experiment", "arm")
    return {name: answer.headers.get(f"x-kamerton-{name}", "") for name in names}


def arms(server: Server) -> list[str]:
    return [ask(server, **{"x-kamerton-unit": unit})["arm"] for unit in UNITS]


@pytest.mark.slow
def test_arms_stay_over_kill_9_and_routes_are_read_again(project: Path) -> None:
    options = ("--routes", "routes.toml", "--admin-port", "0")
    with serving(project, *options) as server:
        first = arms(server)
        assert set(first) == {"one", "two"}
        nobody = {"variant": "one", "route": "support", "experiment": "", "arm": ""}
        assert ask(server) == nobody
        server.process.kill()
        server.process.wait(30)
    with serving(project, *options) as server:
        assert arms(server) == first
        asked = {"context": {"targetingKey": UNITS[0]}}
        flag = httpx.post(f"{server.address}/ofrep/v1/evaluate/flags/support", json=asked).json()
        assert (flag["variant"], flag["reason"]) == (first[0], "SPLIT")

        def reload(text: str) -> str:
            (project / "routes.toml").write_text(text)
            server.process.send_signal(signal.SIGHUP)
            for _ in range(100):
                time.sleep(0.05)
                said = [json.loads(line) for line in log.read_text().splitlines()]
                if len(said) > seen[-1]:
                    seen.append(len(said))
                    return str(said[-1]["what"])
            raise AssertionError("nothing was read")

        log = project / "routing.jsonl"
        seen = [len(log.read_text().splitlines())]
        wholesale = {"x-kamerton-segment": "wholesale"}
        assert ask(server, **wholesale)["variant"] == "two"
        assert reload(ROUTES.replace('"two"', '"three"')) == "rules refused"
        assert ask(server, **wholesale)["variant"] == "two"
        assert reload(ROUTES.replace('"two"', '"builtin:nano"')) == "rules loaded"
        assert ask(server, **wholesale)["variant"] == "builtin:nano"
        assert arms(server) == first
        metrics = httpx.get(f"{server.address}/metrics").text
        assert 'kamerton_shadow_requests_total{route="support",variant="builtin:nano"' in metrics
