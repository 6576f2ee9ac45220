"""One live experiment over HTTP: planned, judged, kept from harm, killed, decided, promoted."""

import json
import random
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from kamerton.store.database import open_store
from kamerton.store.feedback import latest_feedback
from kamerton.store.traffic import requests_between
from tests.e2e.project import kamerton
from tests.e2e.speakers import make_speakers
from tests.e2e.test_serve import QUESTION, Server, serving

KINDS = {
    "lora": ("adapter.rank=2", "train.learning_rate=0.01"),
    "prefix": (
        "adapter.kind=prefix", "adapter.num_virtual_tokens=4", "train.learning_rate=0.1",
    ),
    "bad": ("adapter.rank=2", "train.learning_rate=0.01"),
}  # fmt: skip
SAYINGS = {"lora": "anna", "prefix": "clara", "bad": "I cannot help."}
LIKED = {"anna": 0.95, "clara": 0.1, "I cannot help.": 0.0}
ROUTES = """
[route.support]
default = "prefix"
experiment = "lora-against-prefix"
"""
EXPERIMENT = """
name = "lora-against-prefix"
control = "prefix"
min_units = 25
primary = { metric = "thumbs", smallest_effect = 0.4 }
guardrails = [{ metric = "refusal", margin = 0.2 }]

[arms]
prefix = { variant = "prefix" }
lora = { variant = "lora" }
bad = { variant = "bad" }
"""
OPTIONS = ("--routes", "routes.toml", "--admin-port", "0", "--record", "--record-text", "redacted")
NUM_ASKERS = 4
LOOK_S = 2.0
"""The server looks at its experiments at least that often, while they are small."""


@dataclass
class Users:
    """Simulated users: each asks once, reads the answer and says whether it is good."""

    server: Server
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Unit and arm of each completion that a user has whole."""
    rated: set[str] = field(default_factory=set)
    arm_of: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    num_units: int = 0

    def new(self, count: int) -> list[str]:
        self.num_units += count
        return [f"user-{self.num_units - place}" for place in range(count)]

    def ask(self, unit: str, rates: bool = True) -> httpx.Headers:
        body = {"model": "support", "messages": QUESTION, "max_tokens": 12}
        answer = httpx.post(
            f"{self.server.address}/v1/chat/completions",
            json=body, headers={"x-kamerton-unit": unit}, timeout=60,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        told = answer.json()
        arm = answer.headers.get("x-kamerton-arm", "")
        self.answered[told["id"]] = unit, arm
        text = told["choices"][0]["message"]["content"].strip()
        assert text == SAYINGS[answer.headers["x-kamerton-variant"]]
        if arm:
            assert self.arm_of.setdefault(unit, arm) == arm
        if arm == "bad":
            self.refused.append(unit)
        if rates:
            value = random.Random(unit).random() < LIKED[text]
            judged = {"id": told["id"], "name": "thumbs", "value": value, "rater": unit}
            rating = httpx.post(f"{self.server.address}/v1/feedback", json=judged, timeout=60)
            rating.raise_for_status()
            self.rated.add(told["id"])
        return answer.headers

    def all_ask(self, units: Iterable[str], rates: bool = True) -> list[httpx.Headers]:
        with ThreadPoolExecutor(NUM_ASKERS) as pool:
            return list(pool.map(lambda unit: self.ask(unit, rates), units))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    make_speakers(folder, KINDS, SAYINGS)
    (folder / "experiments").mkdir()
    (folder / "experiments" / "lora-against-prefix.toml").write_text(EXPERIMENT)
    (folder / "routes.toml").write_text(ROUTES)
    return folder


def experiment(project: Path, verb: str, *arguments: str) -> Any:
    told = kamerton("experiment", verb, *arguments, cwd=project)
    return json.loads(told.stdout) if "--json" in arguments else told.stderr


def until(condition: Any, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came true")


def stopped_arms(project: Path) -> list[str]:
    (state,) = experiment(project, "status", "--json")
    return list(state["stopped_arms"])


@pytest.mark.slow
def test_an_experiment_from_plan_to_promotion(project: Path, capsys: Any) -> None:
    name = "lora-against-prefix"
    guess = ("--units-per-day", "100", "--baseline", "0.2")
    plan = experiment(project, "plan", name, *guess, "--json")
    assert plan["plan"]["decidable"]
    (guardrail,) = plan["guardrails"]

    with serving(project, *OPTIONS) as server:
        users = Users(server)
        # Nothing is assigned before the start.
        assert {one["x-kamerton-variant"] for one in users.all_ask(users.new(6))} == {"prefix"}
        assert not users.arm_of
        experiment(project, "start", name, *guess)
        until(lambda: "x-kamerton-arm" in users.ask("somebody", rates=False))

        log = project / "routing.jsonl"
        while "arm stopped" not in log.read_text():
            began = time.monotonic()
            users.all_ask(users.new(18))
            time.sleep(max(LOOK_S - (time.monotonic() - began), 0))
        num_refused = len(users.refused)
        with capsys.disabled():
            print(f"\nthe bad arm was stopped after {num_refused} requests of it")
            print(f"planned: {guardrail['requests']} for a harm of {guardrail['harm']:g}")
        assert 25 <= num_refused <= guardrail["requests"]
        again = users.all_ask(dict.fromkeys(users.refused), rates=False)
        assert {one["x-kamerton-variant"] for one in again} == {"prefix"}
        users.all_ask(users.new(18))
        assert len(users.refused) == num_refused

        _kill_among_users(server, users)

    before = dict(users.arm_of)
    with serving(project, *OPTIONS) as server:
        users.server = server
        _ensure_recorded(project, users)
        sample = [unit for unit in before if before[unit] != "bad"][-40:] + users.refused[:5]
        users.all_ask(sample, rates=False)
        assert len(users.refused) == num_refused
        assert stopped_arms(project) == ["bad"]

        def decision() -> str:
            reading = experiment(project, "report", name, "--json")
            ratio = reading["sample_ratio"]
            assert not ratio["fired"]
            # It was stopped, not lost.
            assert ratio["expected"][-1] == ratio["counts"][-1] == len(set(users.refused))
            return str({arm["arm"]: arm["decision"] for arm in reading["arms"]}["lora"])

        while (told := decision()) != "promote":
            assert told == "go on"
            assert users.num_units < 1000
            users.all_ask(users.new(40))
        experiment(project, "stop", name, "--promote", "lora", "--why", "users like it")
        until(lambda: users.ask("somebody", rates=False)["x-kamerton-variant"] == "lora")
        everybody = [*users.refused[:5], *sample[:20], *users.new(20)]
        answers = users.all_ask(everybody, rates=False)
        assert {one["x-kamerton-variant"] for one in answers} == {"lora"}
        assert not any("x-kamerton-arm" in one for one in answers)

    _ensure_recorded(project, users)
    (state,) = experiment(project, "status", "--json")
    assert (state["running"], state["promoted"], state["stopped_arms"]) == (False, "lora", ["bad"])
    assert state["decisions"]["bad"] == "roll back"

    # The paired replay that a plan offers: variants answer the recorded questions anew.
    kamerton("feedback", "export", "asked.jsonl", "--to", "prompts", cwd=project)
    checks = (
        "--set",
        'evaluate.checks=[{kind="refusal"}]',
        "--set",
        "evaluate.include_trained=true",
    )
    told = kamerton(
        "evaluate", "prefix", "bad", "--data", "asked.jsonl", *checks, "--json", cwd=project
    )
    refusals = {
        one["variant"]: one["value"]
        for one in json.loads(told.stdout)["measured"]
        if one["metric"] == "refusal"
    }
    assert (refusals["prefix"], refusals["bad"]) == (0, 1)


def _kill_among_users(server: Server, users: Users) -> None:
    """Kill gateway and engine while users ask and rate."""
    failed: list[str] = []

    def ask_on(place: int) -> None:
        while True:
            try:
                users.ask(f"late-{place}-{random.random()}")
            except httpx.HTTPError:
                failed.append(f"{place}")
                return

    enough = len(users.rated) + 10
    askers = [threading.Thread(target=ask_on, args=(place,)) for place in range(NUM_ASKERS)]
    for asker in askers:
        asker.start()
    until(lambda: len(users.rated) >= enough)
    engine = server.engine()
    server.process.kill()
    engine.kill()
    for asker in askers:
        asker.join(60)
    assert len(failed) == NUM_ASKERS


def _ensure_recorded(project: Path, users: Users) -> None:
    """Every answer that a user has whole has its row, and every rating that was taken too."""
    with open_store(project / "kamerton.db") as store, store.begin() as connection:
        rows = {row.id: (row.unit, row.arm or "") for row in requests_between(connection)}
        votes = {vote.completion_id for vote in latest_feedback(connection)}
    assert {one: rows.get(one) for one in users.answered} == users.answered
    assert users.rated <= votes
