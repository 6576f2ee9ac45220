"""A judge behind HTTP on this machine: retries, refusals, privacy, and a whole evaluation."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Event, Notice
from kamerton.core.protocols import Chat
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.judge import Ask, Pair, judge_pairs
from kamerton.flows.judge_engine import JudgeOptions, open_judge
from kamerton.flows.judging import say_what_is_sent
from kamerton.flows.report import write_evaluation_report
from kamerton.flows.workspace import Workspace
from tests.unit.flows.test_evaluate import Project
from tests.unit.flows.test_votes import vote

Reply = Callable[[dict[str, Any]], tuple[int, Any]]


def says(text: str) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


@contextmanager
def judge_server(reply: Reply) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve chat completions by a function; give the address and the bodies that came."""
    came: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
            status, answer = reply(body)
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(url: str, folder: Path, waits: list[float] | None = None, **options: Any) -> Ask:
    async def sleep(seconds: float) -> None:
        assert waits is not None, "nothing should be asked again"
        waits.append(seconds)

    judge = JudgeOptions(url, **{"model": "tall", **options})
    return open_judge(judge, Workspace(folder), lambda event: None, sleep=sleep)


CHATS: list[Chat] = [[{"role": "user", "content": f"{number}"}] for number in range(3)]


def test_replies_come_in_order_and_the_key_is_sent(tmp_path: Path) -> None:
    with judge_server(lambda body: says(body["messages"][-1]["content"])) as (url, came):
        assert opened(url, tmp_path, key="secret")(CHATS) == ["0", "1", "2"]
    assert {one["path"] for one in came} == {"/v1/chat/completions"}
    assert {(one["model"], one["temperature"]) for one in came} == {("tall", 0)}
    assert {one["key"] for one in came} == {"Bearer secret"}


def test_a_busy_engine_is_asked_again_and_a_refused_chat_has_no_reply(tmp_path: Path) -> None:
    tried: dict[str, int] = {}

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        asked = body["messages"][-1]["content"]
        tried[asked] = tried.get(asked, 0) + 1
        if asked == "1" and tried[asked] <= 2:
            return 503, {"error": {"message": "busy"}}
        return (400, {"error": {"message": "too long"}}) if asked == "2" else says(asked)

    waits: list[float] = []
    with judge_server(reply) as (url, _):
        assert opened(url, tmp_path, waits)(CHATS) == ["0", "1", None]
    assert waits == [1.0, 2.0]
    assert (tried["1"], tried["2"]) == (3, 1)


def test_an_engine_that_always_fails_is_given_up_after_some_tries(tmp_path: Path) -> None:
    answers = iter([says("[[1]]")])
    waits: list[float] = []
    with judge_server(lambda _: next(answers, (500, {"error": {"message": "broken"}}))) as (
        url,
        came,
    ):
        ask = opened(url, tmp_path, waits)
        with pytest.raises(EvaluationError, match="model tall does not answer: broken"):
            ask(CHATS[:1])
    assert len(came) == 1 + 4
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {"error": {"message": "no such model"}}), "no such model"),
        ((200, {"object": "list"}), "no chat completion"),
        ((200, {"choices": [{"message": {"content": None}}]}), "holds no text"),
    ],
)
def test_what_is_no_judge_is_said_before_anything_is_measured(
    answer: tuple[int, Any], said: str, tmp_path: Path
) -> None:
    with (
        judge_server(lambda _: answer) as (url, _),
        pytest.raises(EvaluationError, match=said),
    ):
        opened(url, tmp_path)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("https://judge.example/v1", {}, "judge.example is another machine"),
        ("http://192.168.1.5:8000", {}, "is another machine"),
        ("http://127.0.0.1:1/v1", {"model": ""}, "which of its models"),
        ("ftp://127.0.0.1", {}, "must be an address"),
        ("http://me:pw@127.0.0.1", {}, "without user, password"),
    ],
)
def test_nothing_is_sent_elsewhere_without_permission(
    url: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=said):
        opened(url, tmp_path, **options)


def test_a_judge_with_an_eye_for_places_finds_ties_over_http(tmp_path: Path) -> None:
    with judge_server(lambda _: says("The first is better. [[1]]")) as (url, _):
        ask = opened(url, tmp_path)
        pairs = [Pair(chat, "good", "bad") for chat in CHATS]
        judged = judge_pairs(pairs, ask)
    assert judged.values == (0.5, 0.5, 0.5)
    assert judged.num_inconsistent == judged.num_asked == 3


def test_votes_and_judge_stand_side_by_side_in_an_evaluation(tmp_path: Path) -> None:
    project = Project(tmp_path)
    rows = [{"question": f"How is {n}?", "answer": f"Well, {n}."} for n in range(16)]
    settings = {"max_new_tokens": 2, "shots": 0}
    plain = project.make(rows[:10], rows[10:], evaluate=settings)
    kind = project.make(
        rows[:10], rows[10:], name="kind", prompt={"system": "Be kind."}, evaluate=settings
    )
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(vote(kind, plain, n) for n in range(8)))

    def prefers_yes(body: dict[str, Any]) -> tuple[int, Any]:
        _, _, answers = body["messages"][-1]["content"].partition("[answer 1]\n")
        if "question 7" in body["messages"][-1]["content"]:
            return says("[[=]]")
        return says("[[1]]" if answers.startswith("yes") else "[[2]]")

    with judge_server(prefers_yes) as (url, _):
        evaluated = project.evaluate(
            plain, kind, votes=votes, judge=JudgeOptions(url, "tall"),
        )  # fmt: skip
    by_people, *by_judge = evaluated.comparison.preferences
    assert by_people.agreement is not None
    assert (by_people.agreement.share, by_people.agreement.num) == (7 / 8, 8)
    assert [(one.by, one.variant, one.against) for one in by_judge] == [
        ("judge tall", plain.name, "zero-shot"),
        ("judge tall", "kind", "zero-shot"),
    ]
    # It always names the second of the variants' own answers: no order wins.
    assert all(one.value == 0.5 for one in by_judge)
    assert by_judge[1].num_inconsistent == by_judge[1].num_asked
    report = tmp_path / "report.html"
    write_evaluation_report(report, evaluated, project.workspace, "kind")
    page = report.read_text("utf-8")
    assert "The judge tall agrees on 88 % of 8 pairs of answers" in page
    assert "You compare two answers to the same message" in page
    assert "tall judges 12 pairs of answers, each in both orders" in project.notices


def test_a_base_on_this_machine_can_judge(tmp_path: Path) -> None:
    ask = open_judge(JudgeOptions("builtin:nano"), Workspace(tmp_path), lambda event: None)
    # It writes no verdict: the likeliest of the three counts, so there always is one.
    judged = judge_pairs([Pair(chat, "good", "bad") for chat in CHATS], ask)
    assert None not in judged.values
    assert judged.num_asked == 3


def test_it_is_said_what_leaves_the_machine() -> None:
    asked = ["Open?", "Write to ann@example.com", "Where do I write to?"]
    items = [Item("", ({"role": "user", "content": text},), "") for text in asked]
    texts = ("Yes.", "Yes.", "To bob@example.com")
    answers = [Answers("desk", "generated", texts, (0.1,) * 3, (1,) * 3, ("stop",) * 3, ("",) * 3)]

    def say(judge: str) -> None:
        say_what_is_sent(JudgeOptions(judge).elsewhere, items, answers, notices.append)

    notices: list[Event] = []
    say_what_is_sent(
        JudgeOptions("http://localhost:8000").elsewhere, items, answers, notices.append
    )
    say("builtin:nano")
    assert notices == []
    say_what_is_sent(
        JudgeOptions("https://judge.example/v1").elsewhere, items, answers, notices.append
    )
    (said,) = notices
    assert isinstance(said, Notice)
    assert said.level == "warning"
    assert said.message == (
        "judge.example is sent 3 questions with their answers; personal data was found in 2 of them"
    )
