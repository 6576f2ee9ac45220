"""Votes on two answers: hidden names, rows that are pairs, one conversation afterwards."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kamerton.cli.blind_vote import BlindVote
from kamerton.cli.chat import _answer
from kamerton.core.protocols import Chat, Generation, Score, TokenEvent
from kamerton.data.dataset import load_examples
from kamerton.data.examples import PreferenceExample
from kamerton.evaluation.votes import read_votes
from kamerton.flows.chat import Conversation
from kamerton.testing import FakeEngine


def says(text: str) -> FakeEngine:
    def answer(chat: Chat) -> str:
        return text and f"{text} {len(chat)}"

    return FakeEngine(answer)


@pytest.fixture
def conversation() -> Conversation:
    engines = {"dpo": says("good"), "sft": says("bad")}
    return Conversation(engines, Generation(max_tokens=50))


def voted(
    conversation: Conversation,
    path: Path,
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int = 0,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    booth = BlindVote(conversation, path, seed)
    for question in ("first?", "second?", "third?"):
        booth.ask(question)
    booth.close()


def test_votes_are_pairs_with_one_prompt(
    conversation: Conversation, tmp_path: Path, monkeypatch, capsys
) -> None:
    path = tmp_path / "votes.jsonl"
    voted(conversation, path, "1\n2\n=\n", monkeypatch)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(row["prompt"]) for row in rows] == [1, 3]
    # What was better goes on in both.
    assert rows[1]["prompt"][1] == {"role": "assistant", "content": rows[0]["chosen"]}
    assert conversation.turns["dpo"] == conversation.turns["sft"]
    assert {rows[0]["better"], rows[0]["worse"]} == {"dpo", "sft"}
    assert rows[0]["chosen"].startswith({"dpo": "good", "sft": "bad"}[rows[0]["better"]])
    examples = load_examples(path).examples
    assert all(isinstance(example, PreferenceExample) for example in examples)
    said = capsys.readouterr()
    assert "dpo" not in said.out
    wins = [sum(row["better"] == name for row in rows) for name in ("dpo", "sft")]
    assert f"better: dpo {wins[0]}, sft {wins[1]}, alike 1" in said.err


def test_ties_and_empty_answers_are_votes_and_no_pairs_to_learn_from(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    path = tmp_path / "votes.jsonl"
    conversation = Conversation(
        {"a": says("good"), "b": says("bad")},
        Generation(max_tokens=50),
        hashes={"a": "1", "b": "2"},
    )
    voted(conversation, path, "1\n=\n\n", monkeypatch)
    assert len(load_examples(path).examples) == 1
    assert [vote.is_alike for vote in read_votes(path)] == [False, True]
    (vote, _) = read_votes(path)
    assert dict(zip(vote.names, vote.hashes, strict=True)) == {"a": "1", "b": "2"}
    assert vote.conversation == conversation.id
    assert f"kamerton evaluate a b --votes {path}" in capsys.readouterr().err
    conversation.reset()
    assert conversation.id != vote.conversation

    other = tmp_path / "other.jsonl"
    silent = Conversation({"a": says("good"), "b": says("")}, Generation(max_tokens=50))
    voted(silent, other, "1\n1\n1\n", monkeypatch)
    assert [vote.is_alike for vote in read_votes(other)] == [False] * 3


def test_the_order_is_drawn(conversation: Conversation, tmp_path: Path, monkeypatch) -> None:
    first = set()
    for seed in range(8):
        path = tmp_path / f"{seed}.jsonl"
        voted(conversation, path, "1\n\n\n", monkeypatch, seed)
        first.add(json.loads(path.read_text())["better"])
    assert first == {"dpo", "sft"}


@pytest.mark.parametrize("typed", ["\n\n\n", "", "=\n=\n=\n"])
def test_no_vote_is_no_row(
    conversation: Conversation, tmp_path: Path, monkeypatch, typed: str
) -> None:
    voted(conversation, tmp_path / "votes.jsonl", typed, monkeypatch)
    assert not (tmp_path / "votes.jsonl").exists()


@pytest.mark.parametrize(("one", "other"), [("same", "same"), ("good", ""), ("a  b\n", " a b")])
def test_nothing_to_learn_from_is_no_row(one: str, other: str, tmp_path: Path, monkeypatch) -> None:
    conversation = Conversation({"a": says(one), "b": says(other)}, Generation(max_tokens=50))
    voted(conversation, tmp_path / "votes.jsonl", "1\n1\n1\n", monkeypatch)
    assert not (tmp_path / "votes.jsonl").exists()


class Thinker:
    """Thinks before it answers."""

    def __init__(self, text: str) -> None:
        self.text = text

    def stream(self, chats: Sequence[Chat], generation: Generation) -> Iterator[TokenEvent]:
        for index in range(len(chats)):
            yield TokenEvent(index, "", reasoning="It is ")
            yield TokenEvent(index, "", reasoning="noon.")
            yield TokenEvent(index, self.text, "stop")

    def score(self, chats: Sequence[Chat], answers: Sequence[Sequence[str]]) -> list[list[Score]]:
        raise NotImplementedError


def test_reasoning_is_kept_apart_from_answers_and_votes(tmp_path: Path, monkeypatch) -> None:
    conversation = Conversation({"a": Thinker("Yes."), "b": says("No")}, Generation(max_tokens=50))
    path = tmp_path / "votes.jsonl"
    voted(conversation, path, "1\n\n\n", monkeypatch)
    row = json.loads(path.read_text())
    side = "chosen" if row["better"] == "a" else "rejected"
    assert (row[side], row[f"{side}_reasoning"]) == ("Yes.", "It is noon.")
    assert len([key for key in row if key.endswith("_reasoning")]) == 1
    assert "noon" not in json.dumps([*conversation.turns["a"], *conversation.turns["b"]])
    assert isinstance(load_examples(path).examples[0], PreferenceExample)


def test_reasoning_is_shown_as_a_message_and_is_no_data(capsys) -> None:
    _answer(Conversation({"a": Thinker("Yes.")}, Generation(max_tokens=50)), "Open?")
    said = capsys.readouterr()
    assert said.out == "Yes.\n"
    assert "It is noon." in said.err
