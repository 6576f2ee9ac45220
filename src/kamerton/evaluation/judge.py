"""A judge: a model that says which of two answers is better, asked in both orders.

Models favour the answer that stands first, or second (Zheng et al., 2023, arXiv 2306.05685). So
every pair is judged twice, and only an answer that wins in both orders has won; all else is a tie.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kamerton.core.protocols import Chat
from kamerton.data.rendering.answers import split_reasoning
from kamerton.evaluation.agreement import krippendorff_alpha
from kamerton.evaluation.metrics import normalise

__all__ = [
    "JUDGE_INSTRUCTION",
    "MARKS",
    "Agreement",
    "Ask",
    "Judged",
    "Pair",
    "agreement_with",
    "judge_chat",
    "judge_pairs",
    "read_mark",
]

JUDGE_INSTRUCTION = """\
You compare two answers to the same message. Judge which answer serves its reader better: whether \
it does what was asked, is true to the facts given, and is well written. Neither the length of an \
answer nor its place decides. Write one sentence with your reason. Then write your verdict on a \
line of its own: [[1]] if answer 1 is better, [[2]] if answer 2 is better, [[=]] if they are \
equally good or equally bad."""
"""What a judge is told; the conversation and the two answers follow in one message."""

MARKS = ("[[1]]", "[[2]]", "[[=]]")
"""The verdicts as a judge writes them."""

Mark = Literal["1", "2", "="]

Ask = Callable[[Sequence[Chat]], Sequence[str | None]]
"""Asks the judge many chats; None stands for a reply that did not come."""

_MARK = re.compile(r"\[\[\s*([12=])\s*\]\]")
_MOST_TURNS = 12


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question.

    Attributes:
        chat: The messages that were answered.
        answer: The answer of the variant whose share is told.
        other: The other answer.
    """

    chat: Chat
    answer: str
    other: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said of pairs.

    Attributes:
        values: Per pair 1 where the answer won in both orders, 0 where the other did, 0.5 for a
            tie; None where a verdict could not be read.
        num_asked: Pairs that it was asked; equal answers are ties without asking.
        num_inconsistent: Of these, how many it judged differently when the order changed.
    """

    values: tuple[float | None, ...]
    num_asked: int
    num_inconsistent: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a judge and people agree on the same pairs.

    Attributes:
        judge: The judge's name.
        share: Share of pairs with the same verdict, ties included.
        alpha: Krippendorff's alpha: 1 for all, 0 as by chance; None where all verdicts are the
            same.
        num: Pairs that both judged.
    """

    judge: str
    share: float
    alpha: float | None
    num: int


def judge_chat(pair: Pair, *, swapped: bool) -> Chat:
    """Write the question to the judge.

    Args:
        pair: The answers.
        swapped: Whether the other answer stands first.

    Returns:
        A system and a user message.
    """
    first, second = (pair.other, pair.answer) if swapped else (pair.answer, pair.other)
    turns = [
        f"[{turn.get('role')}]\n{turn.get('content') or ''}" for turn in pair.chat[-_MOST_TURNS:]
    ]
    parts = [*turns, f"[answer 1]\n{first}", f"[answer 2]\n{second}"]
    return (
        {"role": "system", "content": JUDGE_INSTRUCTION},
        {"role": "user", "content": "\n\n".join(parts)},
    )


def read_mark(text: str) -> Mark | None:
    """Find the verdict in a judge's reply.

    Args:
        text: The reply; reasoning before it does not count.

    Returns:
        The last mark; None where there is none.
    """
    said = split_reasoning(text).text
    found = _MARK.findall(said) or re.findall(r"\A\s*([12=])\s*\Z", said)
    return found[-1] if found else None


def judge_pairs(pairs: Sequence[Pair], ask: Ask) -> Judged:
    """Let a judge compare answers, each pair in both orders.

    Args:
        pairs: The pairs.
        ask: Asks the judge.

    Returns:
        Its verdicts.
    """
    open_pairs = [
        position
        for position, pair in enumerate(pairs)
        if normalise(pair.answer) != normalise(pair.other)
    ]
    chats = [
        judge_chat(pairs[position], swapped=swapped)
        for position in open_pairs
        for swapped in (False, True)
    ]
    replies = ask(chats) if chats else []
    values: list[float | None] = [0.5] * len(pairs)
    num_inconsistent = 0
    for number, position in enumerate(open_pairs):
        straight = _value(replies[2 * number], swapped=False)
        turned = _value(replies[2 * number + 1], swapped=True)
        if straight is None or turned is None:
            values[position] = None
            continue
        values[position] = straight if straight == turned else 0.5
        num_inconsistent += straight != turned
    return Judged(tuple(values), len(open_pairs), num_inconsistent)


def agreement_with(
    judge: str, judged: Sequence[float | None], people: Sequence[float]
) -> Agreement | None:
    """Compare a judge's verdicts with those of people.

    Args:
        judge: The judge's name.
        judged: 1, 0, 0.5, or None per pair.
        people: 1, 0 or 0.5 for the same pairs.

    Returns:
        The agreement; None where no pair was judged by both.
    """
    both = [(j, p) for j, p in zip(judged, people, strict=True) if j is not None]
    if not both:
        return None
    share = sum(j == p for j, p in both) / len(both)
    return Agreement(judge, share, krippendorff_alpha(both, is_number=False), len(both))


def _value(reply: str | None, *, swapped: bool) -> float | None:
    mark = None if reply is None else read_mark(reply)
    if mark is None:
        return None
    if mark == "=":
        return 0.5
    return float((mark == "1") != swapped)
