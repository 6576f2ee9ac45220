"""chrF: how many runs of characters a text shares with the right one (M. Popović, 2015).

Computed as sacrebleu does with its defaults (chrF2, nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no):
counts are added up over all items before precision and recall are taken, so a long text weighs
more than a short one.

Letters: N orders, the lengths of runs.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kamerton.evaluation.statistics import Floats

__all__ = ["chrf", "chrf_features"]

_ORDERS = range(1, 7)
_RECALL_COUNTS = 2.0**2
"""Recall weighs twice as much as precision: the 2 of chrF2, squared."""


def chrf_features(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """Count the runs of characters of texts, of what is right, and of both.

    Args:
        texts: One per item; spaces do not count.
        references: The right text of each.

    Returns:
        Per order the runs of the text, those of the reference and those that match, [n, 3 * N].
    """
    rows = []
    for text, reference in zip(texts, references, strict=True):
        text, reference = "".join(text.split()), "".join(reference.split())
        row: list[int] = []
        for order in _ORDERS:
            own, right = _runs(text, order), _runs(reference, order)
            # An order that the reference is too short for counts on neither side.
            row += [own.total() if right else 0, right.total(), (own & right).total()]
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def chrf(sums: Floats) -> Floats:
    """Compute chrF2.

    Args:
        sums: Sums of `chrf_features`, [..., 3 * N].

    Returns:
        The F-score of mean precision and mean recall over the orders that both sides have, 0 to
        1, [...].
    """
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    own, right, both = counts[..., 0], counts[..., 1], counts[..., 2]
    known = (own > 0) & (right > 0)
    num = np.maximum(known.sum(axis=-1), 1)
    precision = (both / np.where(known, own, np.inf)).sum(axis=-1) / num
    recall = (both / np.where(known, right, np.inf)).sum(axis=-1) / num
    score = np.zeros(precision.shape)
    above = (1 + _RECALL_COUNTS) * precision * recall
    below = _RECALL_COUNTS * precision + recall
    np.divide(above, below, out=score, where=below > 0)
    return score


def _runs(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
