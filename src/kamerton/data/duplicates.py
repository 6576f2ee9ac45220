"""Examples that say the same, in one data set or on both sides of a split.

Exact means equal up to case, width and white space. Near means that at least 85 % of the two
texts' pieces are shared: runs of five characters in short texts, of three words in long ones.
Candidates come from MinHash (Broder 1997) and are then checked exactly, so that nothing is called
near by chance.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.data.examples import Example, FeedbackExample, PreferenceExample
from kamerton.data.identity import (
    answer_text,
    input_text,
    label_of,
    normal_text,
    rejected_text,
    whole_text,
)

__all__ = [
    "NEAR_LIMIT",
    "Duplicates",
    "Leakage",
    "find_contradictions",
    "find_duplicates",
    "find_leakage",
]

NEAR_LIMIT = 20_000
"""Near duplicates are sought among at most so many different texts."""

_THRESHOLD = 0.85
_PIECE = 5
_SHORT = 400
_TEXT_LIMIT = 4_000
_NUM_PERMUTATIONS = 64
_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What a data set says more than once.

    Attributes:
        exact: Clusters of indices whose texts and labels are equal.
        near: Clusters of indices whose texts are similar to that of the first; of equal texts
            only one counts.
        notice: What was not looked at; empty when all was.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    notice: str = ""

    @property
    def num_exact(self) -> int:
        """Examples that could go without loss."""
        return sum(len(cluster) - 1 for cluster in self.exact)

    @property
    def num_near(self) -> int:
        """Examples that say nearly what another says."""
        return sum(len(cluster) - 1 for cluster in self.near)


@dataclass(frozen=True, slots=True)
class Leakage:
    """What the holdout asks and the training data has asked already.

    Attributes:
        exact: Pairs (index in the holdout, index in training) that ask the same.
        near: Pairs that ask nearly the same.
        notice: What was not looked at; empty when all was.
    """

    exact: tuple[tuple[int, int], ...]
    near: tuple[tuple[int, int], ...]
    notice: str = ""


def find_duplicates(examples: Sequence[Example], *, near: bool = True) -> Duplicates:
    """Find what a data set says more than once.

    Args:
        examples: All of one data set.
        near: Whether to look for near duplicates as well; takes seconds per 10,000.

    Returns:
        Clusters of indices.
    """
    same: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    texts = [normal_text(whole_text(example)) for example in examples]
    for i, (example, text) in enumerate(zip(examples, texts, strict=True)):
        same[text, label_of(example)].append(i)
    exact = tuple(tuple(cluster) for cluster in same.values() if len(cluster) > 1)
    if not near:
        return Duplicates(exact, ())
    firsts: dict[str, int] = {}
    for i, text in enumerate(texts):
        firsts.setdefault(text, i)
    candidates, notice = _capped(list(firsts.items()))
    clusters: dict[int, list[int]] = {}
    index = _NearIndex()
    for text, i in candidates:
        # Only the first of a cluster is indexed: ten thousand forms of one letter stay cheap.
        first = index.near(text, else_add=i)
        if first is not None:
            clusters.setdefault(first, [first]).append(i)
    return Duplicates(exact, tuple(map(tuple, clusters.values())), notice)


def find_leakage(train: Sequence[Example], holdout: Sequence[Example]) -> Leakage:
    """Find what the holdout asks and the training data has asked already.

    Args:
        train: To learn from.
        holdout: To measure with.

    Returns:
        Pairs of indices, at most one per holdout example; exact goes before near.
    """
    known: dict[str, int] = {}
    for i, example in enumerate(train):
        known.setdefault(_asked(example), i)
    exact, open_texts = [], []
    for i, example in enumerate(holdout):
        text = _asked(example)
        if text in known:
            exact.append((i, known[text]))
        else:
            open_texts.append((text, i))
    candidates, train_notice = _capped(list(known.items()))
    questions, holdout_notice = _capped(open_texts)
    index = _NearIndex()
    for text, i in candidates if questions else []:
        index.near(text, else_add=i)
    near = []
    for text, i in questions:
        found = index.near(text)
        if found is not None:
            near.append((i, found))
    return Leakage(tuple(exact), tuple(near), train_notice or holdout_notice)


def find_contradictions(examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
    """Find examples that ask the same and answer differently.

    Args:
        examples: All of one data set.

    Returns:
        Clusters of indices: classifications of one text with several classes, conversations with
        several last answers, feedback of one answer that is good and bad, pairs that are reversed.
    """
    asked: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for i, example in enumerate(examples):
        question, answer = _judgement(example)
        if question:
            asked[question].append((answer, i))
    return tuple(
        tuple(i for _, i in answers)
        for answers in asked.values()
        if len({answer for answer, _ in answers}) > 1
    )


def _judgement(example: Example) -> tuple[str, str]:
    question, answer = normal_text(input_text(example)), normal_text(answer_text(example))
    if isinstance(example, FeedbackExample):
        return f"{question}\n{answer}", str(example.good)
    if isinstance(example, PreferenceExample):
        rejected = normal_text(rejected_text(example))
        return f"{question}\n" + "\n".join(sorted((answer, rejected))), answer
    return question, answer


def _asked(example: Example) -> str:
    return normal_text(input_text(example) or answer_text(example))


def _capped(texts: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], str]:
    if len(texts) <= NEAR_LIMIT:
        return texts, ""
    notice = (
        f"near duplicates were sought among {NEAR_LIMIT:,} of {len(texts):,} texts, "
        "evenly spread over the data"
    )
    return [texts[i * len(texts) // NEAR_LIMIT] for i in range(NEAR_LIMIT)], notice


def _pieces(text: str) -> frozenset[str]:
    if len(text) > _SHORT:
        words = text[:_TEXT_LIMIT].split()
        if len(words) > 2:
            return frozenset(map(" ".join, zip(words, words[1:], words[2:], strict=False)))
    text = text[:_TEXT_LIMIT]
    return frozenset(text[i : i + _PIECE] for i in range(max(1, len(text) - _PIECE + 1)))


class _NearIndex:
    """Texts by MinHash, and their pieces for the exact check."""

    def __init__(self) -> None:
        # Imported late: it brings NumPy, which the command line does not need to start.
        from datasketch import MinHash, MinHashLSH

        self._empty = MinHash(num_perm=_NUM_PERMUTATIONS, hashfunc=zlib.crc32)
        # Candidates are wanted from 0.75 on, so that few true pairs are missed.
        self._table = MinHashLSH(threshold=_THRESHOLD - 0.1, num_perm=_NUM_PERMUTATIONS)
        self._texts: dict[int, str] = {}

    def near(self, text: str, *, else_add: int | None = None) -> int | None:
        """Give the earliest added text that is near; when there is none, add this one."""
        mine = _pieces(text)
        hashed = self._empty.copy()
        hashed.update_batch([piece.encode("utf-8", "surrogatepass") for piece in mine])
        candidates: list[int] = sorted(self._table.query(hashed)) if self._texts else []
        for i in candidates[:_CANDIDATES]:
            other = _pieces(self._texts[i])
            if len(mine & other) >= _THRESHOLD * len(mine | other):
                return i
        if else_add is not None:
            self._table.insert(else_add, hashed, check_duplication=False)
            self._texts[else_add] = text
        return None
