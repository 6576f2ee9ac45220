"""Divide examples into those to learn from and those to measure with.

Each cluster of examples gets a fixed point in [0, 1) from its content and the seed, and is held out
when the point lies below the share. So a row's side depends on nothing but itself, with three
exceptions, all of which keep small data sets usable:

- a label of five or more clusters always has one held out: the lowest point, when none is below
  the share. A new row of that label can take its place;
- a label of two or more clusters never goes wholly to the holdout: the highest point stays;
- the same holds for the data set as a whole.

A cluster is what must not be torn apart: examples of one group, and examples that ask the same
(up to case and white space). A row that belongs to two clusters joins them, and one may move.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from kamerton.core.files import hash_bytes
from kamerton.core.seeds import unit_interval
from kamerton.data.examples import Example
from kamerton.data.identity import answer_text, input_text, label_of, normal_text

__all__ = ["split"]

_CLUSTERS_PER_LABEL = 5
# Redaction numbers its placeholders in order of appearance; a new first row renumbers them all.
_PLACEHOLDER = re.compile(r"\[([a-z]+)_\d+\]")


def split(
    examples: Sequence[Example], holdout: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Divide examples so that adding a row does not reshuffle the others.

    Args:
        examples: All of them; their order does not matter.
        holdout: Share of clusters to hold out, 0 to 0.5; a small data set gets what comes near.
        seed: Chooses among the divisions.

    Returns:
        Training and holdout examples, each in the given order. With two clusters or more neither
        is empty, unless the share is 0.
    """
    if holdout == 0:
        return list(examples), []
    clusters = _clusters(examples)
    points = {key: unit_interval(seed, "split", key) for key in set(clusters)}
    of_label = defaultdict(set)
    for example, key in zip(examples, clusters, strict=True):
        of_label[label_of(example)].add(key)

    held = {key for key, point in points.items() if point < holdout}
    for _, keys in sorted(of_label.items(), key=lambda item: str(item[0])):
        lowest, highest = _ends(keys, points)
        if len(keys) >= _CLUSTERS_PER_LABEL and not keys & held:
            held.add(lowest)
        if len(keys) > 1 and keys <= held:
            held.discard(highest)
    if len(points) > 1:
        lowest, highest = _ends(points.keys(), points)
        if not held:
            held.add(lowest)
        elif len(held) == len(points):
            held.discard(highest)
    else:
        held.clear()
    train = [e for e, key in zip(examples, clusters, strict=True) if key not in held]
    return train, [e for e, key in zip(examples, clusters, strict=True) if key in held]


def _ends(keys: Iterable[str], points: dict[str, float]) -> tuple[str, str]:
    ordered = sorted(keys, key=lambda key: (points[key], key))
    return ordered[0], ordered[-1]


def _clusters(examples: Sequence[Example]) -> list[str]:
    """Name the cluster of each example by the least of its groups, or by what it asks."""
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    asked = []
    for example in examples:
        text = _PLACEHOLDER.sub(r"[\1]", normal_text(input_text(example) or answer_text(example)))
        # "a" sorts before "b": a cluster with groups is named by one; new texts change nothing.
        key = "b" + hash_bytes(text.encode("utf-8", "surrogatepass"))
        asked.append(key)
        if example.group is not None:
            group = "a" + hash_bytes(example.group.encode("utf-8", "surrogatepass"))
            first, second = sorted((root(key), root(group)))
            parents[second] = first
    return [root(key) for key in asked]
