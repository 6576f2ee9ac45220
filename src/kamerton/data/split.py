"""Divide examples into those to learn from and those to measure with.

Each cluster of examples gets a fixed point in [0, 1) from its content and the seed, and is held out
when the point lies below the share. So a row's side depends on nothing but itself, with four
exceptions, all of which keep small data sets usable:

- of fewer than 100 clusters just the share is held out, the lowest points: chance alone would now
  and then take one of 45, or nine of 40. A new row can then move one other;
- a label of five or more clusters always has one held out: the lowest point, when none is below
  the share. A new row of that label can take its place;
- a label of two or more clusters never goes wholly to the holdout: the highest point stays;
- the same holds for the data set as a whole.

A cluster is what must not be torn apart: examples of one group, and examples that ask the same
(up to case and white space). A row that belongs to two clusters joins them, and one may move.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kamerton.core.files import hash_bytes
from kamerton.core.seeds import derive_seed
from kamerton.data.clusters import Clusters
from kamerton.data.examples import Example
from kamerton.data.identity import label_of, question_hash
from kamerton.data.spool import Picked

__all__ = ["split"]

_CLUSTERS_PER_LABEL = 5
_FEW_CLUSTERS = 100
_DIGEST_BYTES = 32


def split(
    examples: Sequence[Example], holdout: float, seed: int, purpose: str = "split"
) -> tuple[Picked, Picked]:
    """Divide examples so that adding a row does not reshuffle the others.

    Args:
        examples: All of them; their order does not matter.
        holdout: Share of clusters to hold out, 0 to 0.5; a small data set gets what comes near.
        seed: Chooses among the divisions.
        purpose: Another word divides independently: the holdout is cut from what the test leaves.

    Returns:
        Training and holdout examples, each in the given order. With two clusters or more neither
        is empty, unless the share is 0.
    """
    if holdout == 0:
        return Picked(examples, range(len(examples))), Picked(examples, ())
    # A cluster's point also stands for its name: 63 bits of a hash are not met twice. Clusters
    # are numbered by their points, so the least number of several has the lowest point.
    names = _clusters(examples)
    points = np.fromiter((derive_seed(seed, purpose, name) for name in names), np.int64)
    distinct, numbers = np.unique(points, return_inverse=True)
    of_label: dict[str | None, array[int]] = defaultdict(lambda: array("Q"))
    for example, number in zip(examples, numbers.tolist(), strict=True):
        of_label[label_of(example)].append(number)

    held = distinct / 2**63 < holdout
    if len(distinct) < _FEW_CLUSTERS:
        held = np.arange(len(distinct)) < round(holdout * len(distinct))
    for _, members in sorted(of_label.items(), key=lambda item: str(item[0])):
        _keep_both_sides(held, np.unique(members), least=_CLUSTERS_PER_LABEL)
    _keep_both_sides(held, np.arange(len(distinct)), least=2)
    if len(distinct) == 1:
        held[:] = False
    sides = held[numbers]
    return Picked(examples, np.flatnonzero(~sides)), Picked(examples, np.flatnonzero(sides))


def _keep_both_sides(held: NDArray[np.bool_], clusters: NDArray[np.int64], least: int) -> None:
    """Hold out the lowest of at least so many when none is; give back the highest when all are."""
    if len(clusters) >= least and not held[clusters].any():
        held[clusters[0]] = True
    if len(clusters) > 1 and held[clusters].all():
        held[clusters[-1]] = False


def _clusters(examples: Sequence[Example]) -> Iterator[str]:
    """Name the cluster of each example by the least of its groups, or by what it asks."""
    clusters: Clusters[str] = Clusters()
    asked = bytearray()
    for example in examples:
        digest = question_hash(example)
        asked += bytes.fromhex(digest)
        if example.group is not None:
            # "a" sorts before "b": a cluster with groups is named by one; new texts change nothing.
            group = hash_bytes(example.group.encode("utf-8", "surrogatepass"))
            clusters.join(f"b{digest}", f"a{group}")
    for at in range(0, len(asked), _DIGEST_BYTES):
        yield clusters.name(f"b{asked[at : at + _DIGEST_BYTES].hex()}")
