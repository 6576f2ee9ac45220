"""The order in which people should look at uncertain rows: unsure ones first, and varied ones.

Greedy choice by maximal marginal relevance (Carbonell and Goldstein 1998): a row is worth its
uncertainty, less what it repeats of rows that stand before it.
"""

from collections.abc import Sequence

import numpy as np

from kamerton.data.audit.near import Signer
from kamerton.data.identity import normal_text

__all__ = ["order_for_review"]

_MOST_VARIED = 1_000
"""So many places are chosen one by one; nobody reviews more at once. The rest is by uncertainty."""
_POOL = 4
"""Candidates for a varied place: so many times the places."""


def order_for_review(texts: Sequence[str], confidence: Sequence[float]) -> list[int]:
    """Order rows by what a right label of each would teach.

    Args:
        texts: [N] what was asked.
        confidence: [N] of the teacher's label, 0 to 1; 0 where it gave none.

    Returns:
        All positions, the most valuable row first.
    """
    unsure = 1.0 - np.asarray(confidence, float)
    by_doubt = np.argsort(-unsure, kind="stable")
    pool = by_doubt[: _MOST_VARIED * _POOL]
    signer = Signer()
    signatures = np.array([signer.sign(normal_text(texts[one])) for one in pool])
    nearest = np.zeros(len(pool))
    left = np.ones(len(pool), bool)
    chosen: list[int] = []
    for _ in range(min(_MOST_VARIED, len(pool))):
        worth = np.where(left, unsure[pool] * (1.0 - nearest), -1.0)
        best = int(worth.argmax())
        chosen.append(int(pool[best]))
        left[best] = False
        # Two signatures agree in about the share of columns that is the share of common pieces.
        nearest = np.maximum(nearest, (signatures == signatures[best]).mean(axis=1))
    taken = set(chosen)
    return [*chosen, *(int(one) for one in by_doubt if int(one) not in taken)]
