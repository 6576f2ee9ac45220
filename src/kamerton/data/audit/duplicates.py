"""Examples that say the same, in one data set or on both sides of a split.

Exact means equal up to case, width and white space; near is what `kamerton.data.audit.near` calls
so. What is kept per example are eight bytes of a hash, and a signature for up to a million
examples: two different texts share a hash less than once in a million data sets of a million rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kamerton.core.language import translated
from kamerton.data.audit.near import NUM_HASHES, Signer, are_near, candidates
from kamerton.data.examples import Example, FeedbackExample, PreferenceExample
from kamerton.data.identity import (
    answer_text,
    input_text,
    label_of,
    normal_text,
    rejected_text,
    whole_text,
)
from kamerton.data.union_find import UnionFind

__all__ = [
    "NEAR_LIMIT",
    "Duplicates",
    "Leakage",
    "Report",
    "find_contradictions",
    "find_duplicates",
    "find_leakage",
    "reported",
]

NEAR_LIMIT = 1_000_000
"""Near duplicates are sought among at most so many examples."""

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

_REPORT_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What a data set says more than once.

    Attributes:
        exact: UnionFind of indices whose texts and labels are equal.
        near: UnionFind of indices, each of whose texts is similar to another of its cluster; of
            equal texts only one counts.
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


def find_duplicates(examples: Sequence[Example], report: Report | None = None) -> Duplicates:
    """Find what a data set says more than once.

    Args:
        examples: All of one data set.
        report: Called with the progress.

    Returns:
        UnionFind of indices.
    """
    texts = _Texts(len(examples))
    labelled = np.zeros(len(examples), np.uint64)
    for i, example in enumerate(reported(examples, translated("finding duplicates"), report)):
        text = normal_text(whole_text(example))
        texts.add(text)
        labelled[i] = _key(text, repr(label_of(example)))
    first = _first_equal(texts.keys)
    clusters: UnionFind[int] = UnionFind()
    for one, other in texts.candidates(None, report):
        one, other = first[one], first[other]
        if clusters.name(one) == clusters.name(other):
            continue
        two = examples[one], examples[other]
        if not _of_one_ranking(*two) and are_near(*(normal_text(whole_text(e)) for e in two)):
            clusters.join(one, other)
    return Duplicates(_equal(labelled), clusters.all(), texts.notice)


def find_leakage(
    train: Sequence[Example], holdout: Sequence[Example], report: Report | None = None
) -> Leakage:
    """Find what the holdout asks and the training data has asked already.

    Args:
        train: To learn from.
        holdout: To measure with.
        report: Called with the progress.

    Returns:
        Pairs of indices, at most one per holdout example; exact goes before near.
    """
    texts = _Texts(len(train) + len(holdout))
    for part in (train, holdout):
        for example in reported(part, translated("looking for leakage"), report):
            texts.add(_asked(example))
    first = _first_equal(texts.keys)
    count = len(train)
    pairs = [(i, first[count + i]) for i in range(len(holdout))]
    exact = {i: other for i, other in pairs if other < count}
    near: dict[int, int] = {}
    known = np.arange(len(texts.keys)) < count
    for one, other in texts.candidates(known, report):
        i = other - count
        if i not in exact and i not in near and are_near(_asked(train[one]), _asked(holdout[i])):
            near[i] = one
    return Leakage(tuple(exact.items()), tuple(sorted(near.items())), texts.notice)


def find_contradictions(
    examples: Sequence[Example], report: Report | None = None
) -> tuple[tuple[int, ...], ...]:
    """Find examples that ask the same and answer differently.

    Args:
        examples: All of one data set.
        report: Called with the progress.

    Returns:
        UnionFind of indices: classifications of one text with several classes, conversations with
        several last answers, feedback of one answer that is good and bad, pairs that are reversed.
    """
    keys = np.zeros((len(examples), 2), np.uint64)
    for i, example in enumerate(reported(examples, translated("comparing answers"), report)):
        question, answer = _judgement(example)
        # Without a question nothing can contradict: such examples get a key of their own.
        keys[i] = _key(question or f"\0{i}"), _key(answer)
    questions, answers = keys.T
    return tuple(
        cluster for cluster in _equal(questions) if len(np.unique(answers[list(cluster)])) > 1
    )


def reported(examples: Sequence[Example], task: str, report: Report | None) -> Iterator[Example]:
    """Report how far a loop over examples is.

    Args:
        examples: Examples to loop over.
        task: Name of what the loop does.
        report: Called every thousand examples.

    Yields:
        The examples.
    """
    total = len(examples)
    for number, example in enumerate(examples, 1):
        yield example
        if report is not None and (number % _REPORT_EVERY == 0 or number == total):
            report(task, number, total)


class _Texts:
    """What is remembered of texts: a hash of each, and signatures of at most `NEAR_LIMIT`."""

    def __init__(self, count: int) -> None:
        self.keys = np.zeros(count, np.uint64)
        self.notice = ""
        self._num_keys = 0
        # Evenly spread over the data where there are too many.
        num_signed = min(count, NEAR_LIMIT)
        self._signed = np.arange(num_signed) * count // max(1, num_signed)
        self._signatures = np.zeros((num_signed, NUM_HASHES), np.uint32)
        self._num_signed = 0
        self._signer = Signer()
        if count > NEAR_LIMIT:
            self.notice = (
                f"near duplicates were sought among {NEAR_LIMIT:,} of {count:,} examples, "
                "evenly spread over the data"
            )

    def add(self, text: str) -> None:
        i, at = self._num_keys, self._num_signed
        self.keys[i] = _key(text)
        self._num_keys += 1
        if at < len(self._signed) and self._signed[at] == i:
            self._signatures[at] = self._signer.sign(text)
            self._num_signed += 1

    def candidates(
        self, known: NDArray[np.bool_] | None, report: Report | None
    ) -> Iterator[tuple[int, int]]:
        def tell(done: int, total: int) -> None:
            if report is not None:
                report(translated("comparing texts"), done, total)

        chosen = None if known is None else known[self._signed]
        for one, other in candidates(self._signatures, chosen, tell):
            yield int(self._signed[one]), int(self._signed[other])


def _key(*texts: str) -> int:
    text = "\0".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def _first_equal(keys: NDArray[np.uint64]) -> list[int]:
    """Give for each key the index of the first one that is equal."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    indices: list[int] = first[inverse].tolist()
    return indices


def _equal(keys: NDArray[np.uint64]) -> tuple[tuple[int, ...], ...]:
    """Give the clusters of indices, two or more, whose keys are equal; by their first index."""
    order = np.argsort(keys, kind="stable")
    begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]) != 0)
    sizes = np.diff(begins, append=len(order))
    several = zip(begins[sizes > 1], sizes[sizes > 1], strict=True)
    return tuple(sorted(tuple(order[start : start + size].tolist()) for start, size in several))


def _judgement(example: Example) -> tuple[str, str]:
    question, answer = normal_text(input_text(example)), normal_text(answer_text(example))
    if isinstance(example, FeedbackExample):
        return f"{question}\n{answer}", str(example.is_desirable)
    if isinstance(example, PreferenceExample):
        rejected = normal_text(rejected_text(example))
        return f"{question}\n" + "\n".join(sorted((answer, rejected))), answer
    return question, answer


def _of_one_ranking(one: Example, other: Example) -> bool:
    """Tell pairs that share their prompt, and often an answer, by their nature."""
    return (
        isinstance(one, PreferenceExample)
        and isinstance(other, PreferenceExample)
        and (one.location, one.prompt) == (other.location, other.prompt)
    )


def _asked(example: Example) -> str:
    return normal_text(input_text(example) or answer_text(example))
