"""Divide examples into those to learn from and those to measure with.

Each cluster of examples gets a fixed point in [0, 1) from its content and the seed, and is held out
when the point lies below the share. So a row's side depends on nothing but itself, with four
exceptions, which keep small data sets usable and the holdout near the share that was asked for:

- of fewer than 1,000 clusters, and where chance misses the share of rows by more than a quarter,
  clusters are held out from the lowest point on as long as they fit into the share. A new row can
  then move others (where all clusters are single rows, one);
- a label of five or more clusters always has one held out: the lowest point, when none is below
  the share. A new row of that label can take its place;
- a label of two or more clusters never goes wholly to the holdout: the highest point stays;
- the same holds for the data set as a whole.

A cluster is what must not be torn apart: examples of one group, and examples that ask the same
(up to case and white space). A row that belongs to two clusters joins them, and one may move.

Groups that ask the same are tied together too, unless that ties more than half of all rows into
one cluster: then short questions ("yes, please") tie no groups, and where that is not enough no
questions do.

One long plain text, such as a book, is divided by position: its end is held out.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kamerton.core.files import hash_bytes
from kamerton.core.seeds import derive_seed
from kamerton.data.examples import Example, TextExample
from kamerton.data.examples_on_disk import Picked
from kamerton.data.identity import label_of, question_hash, question_text
from kamerton.data.union_find import UnionFind

__all__ = ["Tied", "split", "tied"]

_CLUSTERS_PER_LABEL = 5
_FEW_CLUSTERS = 1000
_FAR_FROM_SHARE = 0.25
_SHORT_CHARACTERS = 40
_DIGEST_BYTES = 32
_LONG_CHARACTERS = 2000
# Where a text may be divided, best first.
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?…]\s"), re.compile(r"\s"))


def split(
    examples: Sequence[Example], holdout: float, seed: int, purpose: str = "split"
) -> tuple[Picked, Picked]:
    """Divide examples so that adding a row does not reshuffle the others.

    Args:
        examples: All of them; their order does not matter.
        holdout: Share of examples to hold out, 0 to 0.5, as near as clusters allow.
        seed: Chooses among the divisions.
        purpose: Another word divides independently: the holdout is cut from what the test leaves.

    Returns:
        Training and holdout examples, each in the given order. With two clusters or more neither
        is empty, unless the share is 0. One long plain text gives two examples, its beginning and
        its end.
    """
    if holdout == 0 or not examples:
        return Picked(examples, range(len(examples))), Picked(examples, ())
    only = examples[0] if len(examples) == 1 else None
    if isinstance(only, TextExample) and (at := _border(only.text, 1 - holdout)):
        halves = [replace(only, text=text) for text in (only.text[:at], only.text[at:])]
        return Picked(halves, (0,)), Picked(halves, (1,))
    # A cluster's point also stands for its name: 63 bits of a hash are not met twice. UnionFind
    # are numbered by their points, so the least number of several has the lowest point.
    ties = _Ties(examples)
    names = ties.names(ties.choose())
    points = np.fromiter((derive_seed(seed, purpose, name) for name in names), np.int64)
    distinct, numbers, sizes = np.unique(points, return_inverse=True, return_counts=True)
    of_label: dict[str | None, array[int]] = defaultdict(lambda: array("Q"))
    for example, number in zip(examples, numbers.tolist(), strict=True):
        of_label[label_of(example)].append(number)

    held = distinct / 2**63 < holdout
    missed = abs(sizes[held].sum() / len(examples) - holdout)
    if len(distinct) < _FEW_CLUSTERS or missed > _FAR_FROM_SHARE * holdout:
        held = _fitting(sizes, round(holdout * len(examples)))
    for _, members in sorted(of_label.items(), key=lambda item: str(item[0])):
        _keep_both_sides(held, np.unique(members), least=_CLUSTERS_PER_LABEL)
    _keep_both_sides(held, np.arange(len(distinct)), least=2)
    if len(distinct) == 1:
        held[:] = False
    sides = held[numbers]
    return Picked(examples, np.flatnonzero(~sides)), Picked(examples, np.flatnonzero(sides))


def _border(text: str, share: float) -> int:
    """Find a border of paragraphs, lines, sentences or words near a share of a long text."""
    if len(text) < _LONG_CHARACTERS:
        return 0
    # Near is what costs or spares the smaller side no more than a quarter of it.
    wanted, reach = int(share * len(text)), int(min(share, 1 - share) * len(text) / 4)
    for border in _BORDERS:
        ends = [m.end() for m in border.finditer(text, wanted - reach, wanted + reach)]
        if ends:
            return min(ends, key=lambda end: abs(end - wanted))
    return wanted


def _keep_both_sides(held: NDArray[np.bool_], clusters: NDArray[np.int64], least: int) -> None:
    """Hold out the lowest of at least so many when none is; give back the highest when all are."""
    if len(clusters) >= least and not held[clusters].any():
        held[clusters[0]] = True
    if len(clusters) > 1 and held[clusters].all():
        held[clusters[-1]] = False


def _fitting(sizes: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
    """Choose clusters from the first on so that they hold as many rows as wanted, or nearly."""
    held = np.zeros(len(sizes), dtype=np.bool_)
    missing = wanted
    for number, size in enumerate(sizes.tolist()):
        if size <= missing:
            held[number] = True
            missing -= size
    # One more may come nearer than none.
    nearer = np.flatnonzero(~held & (np.abs(sizes - missing) < missing))
    if len(nearer):
        held[nearer[0]] = True
    return held


@dataclass(frozen=True, slots=True)
class Tied:
    """The largest cluster of a data set, and what ties groups together.

    Attributes:
        by: `questions` where equal questions tie groups, `long questions` where short ones do
            not, `nothing` where no question does.
        num_rows: Rows of the largest cluster.
        num_groups: Groups in it, 0 when its rows have none.
        first: Its first row in the data set's order, from 0.
    """

    by: Literal["questions", "long questions", "nothing"]
    num_rows: int
    num_groups: int
    first: int


def tied(examples: Sequence[Example]) -> Tied:
    """Find out what ties the most rows together.

    Args:
        examples: All, at least one.

    Returns:
        The largest cluster.
    """
    ties = _Ties(examples)
    by = ties.choose()
    _, firsts, numbers, sizes = np.unique(
        ties.points(by), return_index=True, return_inverse=True, return_counts=True
    )
    largest = int(sizes.argmax())
    members = np.flatnonzero(numbers == largest).tolist()
    groups = {examples[position].group for position in members} - {None}
    return Tied(by, int(sizes[largest]), len(groups), int(firsts[largest]))


class _Ties:
    """What ties examples into clusters."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._asked, self._groups = bytearray(), bytearray()
        self._clusters: dict[str, UnionFind[str]] = {
            "questions": UnionFind(), "long questions": UnionFind(), "nothing": UnionFind(),
        }  # fmt: skip
        self._grouped = False
        for example in examples:
            digest = question_hash(example)
            self._asked += bytes.fromhex(digest)
            if example.group is None:
                self._groups += bytes(_DIGEST_BYTES)
                continue
            self._grouped = True
            # "a" sorts before "b": a cluster with groups is named by one; new texts change nothing.
            group = hash_bytes(example.group.encode("utf-8", "surrogatepass"))
            self._groups += bytes.fromhex(group)
            self._clusters["questions"].join(f"b{digest}", f"a{group}")
            if len(question_text(example)) > _SHORT_CHARACTERS:
                self._clusters["long questions"].join(f"b{digest}", f"a{group}")

    def choose(self) -> Literal["questions", "long questions", "nothing"]:
        """Say which questions tie groups: as many as leave no cluster with most of the rows."""
        if not self._grouped:
            return "questions"
        half = len(self._asked) // _DIGEST_BYTES / 2
        # A large group is a large cluster whatever else is tied.
        bound = half if self._largest("questions") <= half else self._largest("nothing")
        bound = max(half, bound)
        if self._largest("questions") <= bound:
            return "questions"
        return "long questions" if self._largest("long questions") <= bound else "nothing"

    def names(self, by: str) -> Iterator[str]:
        """Name the cluster of each example by the least of its groups, or by what it asks."""
        clusters, none = self._clusters[by], bytes(_DIGEST_BYTES)
        for at in range(0, len(self._asked), _DIGEST_BYTES):
            group = self._groups[at : at + _DIGEST_BYTES]
            asked = self._asked[at : at + _DIGEST_BYTES]
            yield clusters.name(f"b{asked.hex()}" if group == none else f"a{group.hex()}")

    def points(self, by: str) -> NDArray[np.int64]:
        """Number the clusters of the examples, [n]."""
        return np.fromiter((derive_seed(0, name) for name in self.names(by)), np.int64)

    def _largest(self, by: str) -> int:
        return int(np.unique(self.points(by), return_counts=True)[1].max())
