"""Successive halving: many candidates on few questions, the better half of them on more.

Jamieson and Talwalkar 2016. Every candidate of a round has been asked the same questions, and the
questions of earlier rounds count too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

__all__ = ["CandidateScore", "halving", "num_asked"]

Scores = Sequence[tuple[float, ...]]
"""One tuple per question; larger is better, and the first number decides before the second."""

Measure = Callable[[int, Sequence[int]], Scores]
"""Asks a candidate, by its place, the questions at some places."""

_FIRST_QUESTIONS = 16


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """How far a candidate came.

    Attributes:
        candidate: Its place.
        num_questions: Questions that it was asked.
        score: Means over these, of what was measured.
    """

    candidate: int
    num_questions: int
    score: tuple[float, ...]


def halving(num_candidates: int, num_questions: int, measure: Measure) -> list[CandidateScore]:
    """Search the best of many candidates.

    Args:
        num_candidates: How many there are, at least 1.
        num_questions: How many questions there are, at least 1, in an order without meaning.
        measure: Asks them.

    Returns:
        A trial per candidate: those that came farthest first, of these the best first; of equals
        the first first.
    """
    scores: list[list[tuple[float, ...]]] = [[] for _ in range(num_candidates)]
    left = list(range(num_candidates))
    for first, end, keep in _rounds(num_candidates, num_questions):
        for candidate in left:
            scores[candidate] += measure(candidate, range(first, end))
        left = sorted(left, key=lambda one: _order(scores[one]))[:keep]
    trials = [CandidateScore(place, len(own), _means(own)) for place, own in enumerate(scores)]
    return sorted(trials, key=lambda one: (-one.num_questions, [-mean for mean in one.score]))


def num_asked(num_candidates: int, num_questions: int) -> int:
    """Count what a search asks.

    Args:
        num_candidates: How many candidates there are.
        num_questions: How many questions there are.

    Returns:
        Questions asked in all, each candidate's counted.
    """
    asked, left = 0, num_candidates
    for first, end, keep in _rounds(num_candidates, num_questions):
        asked += left * (end - first)
        left = keep
    return asked


def _rounds(num_candidates: int, num_questions: int) -> list[tuple[int, int, int]]:
    """First question, end, and how many candidates go on: until two were asked everything."""
    rounds: list[tuple[int, int, int]] = []
    first, left = 0, num_candidates
    while first < num_questions:
        # The last two see all questions: between them it counts most.
        end = num_questions if left <= 2 else min(max(2 * first, _FIRST_QUESTIONS), num_questions)
        keep = max((left + 1) // 2, min(2, left))
        rounds.append((first, end, keep))
        first, left = end, keep
    return rounds


def _order(scores: Scores) -> list[float]:
    return [-mean for mean in _means(scores)]


def _means(scores: Scores) -> tuple[float, ...]:
    return tuple(fsum(values) / len(values) for values in zip(*scores, strict=True))
