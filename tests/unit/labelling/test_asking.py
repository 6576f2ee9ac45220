"""Asking over faults: nothing that was answered is asked again, and the budget holds."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import SettingsError
from kamerton.labelling.asking import Asking, Job, RequestFailed, TeacherFailed
from kamerton.labelling.budget import Budget, Prices
from kamerton.labelling.given_answers import GivenAnswers, Tokens, open_answers
from kamerton.labelling.settings import TeacherSettings

Outcome = Exception | Mapping[str, Any] | str


def answered(text: str = "refund", prompt: int = 20) -> Mapping[str, Any]:
    token = {"token": text, "logprob": -0.1}
    choice = {"message": {"content": text}, "logprobs": {"content": [token]}}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": 1}}


class Server:
    """Answers by a script for each text, the last outcome again and again; its clock is false."""

    def __init__(self, script: Mapping[str, Sequence[Outcome]] | None = None) -> None:
        self.script = {text: list(outcomes) for text, outcomes in (script or {}).items()}
        self.asked: list[str] = []
        self.sent_at: list[float] = []
        self.now = 0.0
        self.num_open = self.most_open = 0

    async def post(self, body: Mapping[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        self.asked.append(text)
        self.sent_at.append(self.now)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        await asyncio.sleep(0)
        self.num_open -= 1
        outcomes = self.script.get(text, [answered()])
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def jobs(*texts: str) -> list[Job]:
    made = []
    for number, text in enumerate(texts):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8}
        made.append(Job(number, 0, f"key of {text}", body))
    return made


def run(
    server: Server,
    asked: Sequence[Job],
    answers: GivenAnswers,
    most_cost: float | None = None,
    **settings: Any,
) -> tuple[dict[int, Any], Budget]:
    how = TeacherSettings(max_tokens=8, **settings)
    # A token that is read costs 1, one that is written 10.
    spent = answers.charged(job.key for job in asked)
    budget = Budget(Prices(1e6, 1e7), spent, most_cost=most_cost)
    asking = Asking(server.post, how, answers, budget, server.sleep, lambda: server.now)

    async def all_of() -> dict[int, Any]:
        async with aclosing(asking.ask(asked)) as pairs:
            return {job.text: answer async for job, answer in pairs}

    return asyncio.run(all_of()), budget


def test_faults_that_pass_are_tried_again_and_answers_are_kept(tmp_path: Path) -> None:
    lost = RequestFailed(0, "cut")
    server = Server(
        {
            "a": [RequestFailed(500, "oh"), answered()],
            "b": [lost, lost, answered()],
            "c": ["<html>"],
            "d": [RequestFailed(429, "slow down"), answered("delivery")],
        }
    )
    with open_answers(tmp_path / "answers.jsonl") as answers:
        found, budget = run(server, jobs("a", "b", "c", "d"), answers)
    assert found[0] == {"text": "refund", "logprob": -0.1}
    assert found[2] == {"malformed": "<html>"}
    assert found[3]["text"] == "delivery"
    assert sorted(server.asked) == ["a", "a", "b", "b", "b", "c", "d", "d"]
    # 20 and 1 for each answer; the most for two that were lost and for one that did not say: 73
    # for a text of one byte, a message and a template, and 8 that might have been written.
    assert budget.spent == Tokens(3 * 20 + 3 * 73, 3 * 1 + 3 * 8)
    with open_answers(tmp_path / "answers.jsonl") as answers:
        again, after = run(Server(), jobs("a", "b", "c", "d"), answers)
    assert again == found
    assert after.spent == budget.spent


def test_nobody_asks_before_the_server_allows(tmp_path: Path) -> None:
    slow = RequestFailed(429, "slow down", retry_after_s=30)
    server = Server({"b": [slow, answered()]})
    with open_answers(tmp_path / "answers.jsonl") as answers:
        run(server, jobs("a", "b", *(f"more {n}" for n in range(20))), answers, concurrency=2)
    refused = server.asked.index("b")
    # One other request was under way; all later ones wait until the 30 s are over.
    assert [at >= 30 for at in server.sent_at[refused + 2 :]] == [True] * 20
    assert server.most_open == 2


def test_waits_grow_where_the_server_names_none(tmp_path: Path) -> None:
    busy = [RequestFailed(503, "busy"), RequestFailed(429, "busy", 0.0), RequestFailed(503, "")]
    server = Server({"a": [*busy, answered()]})
    with open_answers(tmp_path / "answers.jsonl") as answers:
        run(server, jobs("a"), answers)
    waits = [b - a for a, b in zip(server.sent_at, server.sent_at[1:], strict=False)]
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits))


@pytest.mark.parametrize("limit", [155, 1000, 1400])
def test_the_budget_is_never_exceeded(tmp_path: Path, limit: float) -> None:
    texts = [f"{n:03}" for n in range(50)]
    with open_answers(tmp_path / "answers.jsonl") as answers:
        found, budget = run(Server(), jobs(*texts), answers, most_cost=limit)
        num = sum(answer is not None for answer in found.values())
        assert 1 <= num < 50
        # Each costs 20 + 10, and needs 75 + 80 before it is sent.
        assert budget.cost == 30 * num <= limit < 30 * num + 155
        # The same budget is spent; a larger one goes on.
        _, same = run(Server(), jobs(*texts), answers, most_cost=limit)
        assert same.cost == budget.cost
        more = Server()
        found, after = run(more, jobs(*texts), answers, most_cost=10_000)
    assert None not in found.values()
    assert after.cost == 30 * 50
    assert len(more.asked) == 50 - num


def test_lost_requests_use_up_the_budget(tmp_path: Path) -> None:
    server = Server({"abc": [RequestFailed(0, "time-out")]})
    with open_answers(tmp_path / "answers.jsonl") as answers:
        found, budget = run(server, jobs("abc"), answers, most_cost=400)
        assert found == {0: None}
        assert server.asked == ["abc"] * 2
        assert budget.cost == 2 * 155
        # What never reached the server costs nothing.
        away = RequestFailed(0, "refused", was_sent=False)
        with pytest.raises(TeacherFailed, match="no answer in 3 attempts: refused"):
            run(Server({"d": [away]}), jobs("d"), answers, most_cost=400, attempts=3)
        assert answers.charged(["key of d"]) == Tokens()


def test_a_prompt_that_the_server_lengthens_is_learned_from_the_first_answer(
    tmp_path: Path,
) -> None:
    texts = [f"{n:03}" for n in range(30)]
    long = answered(prompt=500)
    server = Server({text: [long] for text in texts})
    with open_answers(tmp_path / "answers.jsonl") as answers:
        _, budget = run(server, jobs(*texts), answers, most_cost=5000)
    assert 4000 < budget.cost <= 5000


def test_a_request_that_no_server_likes_stops_the_job_or_leaves_out_a_text(tmp_path: Path) -> None:
    bad = RequestFailed(400, "too long")
    with open_answers(tmp_path / "answers.jsonl") as answers:
        with pytest.raises(TeacherFailed, match="status 400: too long"):
            run(Server({name: [bad] for name in "aef"}), jobs(*"aef"), answers)
        found, _ = run(Server({"g": [bad]}), jobs("g", "h"), answers)
        assert "malformed" in found[0]
        assert "malformed" not in found[1]
        with pytest.raises(TeacherFailed, match="status 401: key"):
            run(Server({"b": [RequestFailed(401, "key")]}), jobs("a", "b"), answers)
        found, _ = run(Server({"c": [bad]}), jobs("x", "c", "d"), answers)
    assert found[1] == {"malformed": "status 400: too long"}
    assert found[2] == {"text": "refund", "logprob": -0.1}


def test_who_stops_waits_for_what_is_under_way(tmp_path: Path) -> None:
    server = Server({"c": [RequestFailed(401, "key")]})
    names = [f"text {n}" for n in range(20)]
    with open_answers(tmp_path / "answers.jsonl") as answers:
        with pytest.raises(TeacherFailed, match="key"):
            run(server, jobs("a", "b", "c", *names), answers, concurrency=4)
        sent = [text for text in server.asked if text != "c"]
        assert all(answers.get(f"key of {text}") is not None for text in sent)
        assert len(sent) < 22

        async def only_two() -> None:
            how = TeacherSettings(max_tokens=8, concurrency=5)
            asking = Asking(server.post, how, answers, Budget(Prices(), Tokens()), server.sleep)
            async with aclosing(asking.ask(jobs(*(f"more {n}" for n in range(30))))) as pairs:
                await anext(pairs)
                await anext(pairs)

        server.asked.clear()
        asyncio.run(only_two())
        assert 2 <= len(server.asked) < 30
        assert all(answers.get(f"key of {text}") is not None for text in server.asked)
        assert answers.charged(f"key of {text}" for text in server.asked).completion == len(
            server.asked
        )


def test_a_cut_line_is_dropped_and_an_open_request_counts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with open_answers(path) as answers:
        answers.begin("a", Tokens(5, 6))
        answers.begin("b", Tokens(1, 1))
        answers.finish("b", {"text": "x"}, Tokens(1, 0), paid=True)
        with pytest.raises(SettingsError, match="written by another process"), open_answers(path):
            pass
    path.write_bytes(path.read_bytes() + b'{"key": "a", "ans')
    with open_answers(path) as answers:
        assert answers.get("a") is None
        assert answers.charged(["a", "b"]) == Tokens(6, 6)
        answers.finish("c", {"text": "y"})
    with open_answers(path) as answers:
        assert answers.get("c") == {"text": "y"}
    path.write_text("a table\n")
    with pytest.raises(SettingsError, match="holds no answers"), open_answers(path):
        pass
