"""Probable errors in given labels: confident learning (Northcutt et al. 2021, arXiv:1911.00068).

A row counts for label j where the model gives j at least as much probability as it gives, on
average, to rows that people labelled j. Rows that count for another label than their own are
probably labelled wrong. Each label has its own threshold, so that a label of which the model is
never sure does not make all of its rows look wrong.

Like cleanlab's `find_label_issues(filter_by="confident_learning")`, a row whose likeliest label is
its own is never called an error. Unlike it, of several labels that a row counts for, the likeliest
of these is taken, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelError", "find_label_errors"]


@dataclass(frozen=True, slots=True)
class LabelError:
    """A row whose label is probably wrong.

    Attributes:
        row: Its position.
        given: Position of its label.
        likely: Position of the label that it probably should have.
        given_probability: Probability of its label.
        likely_probability: Probability of the other one.
    """

    row: int
    given: int
    likely: int
    given_probability: float
    likely_probability: float


def find_label_errors(probabilities: NDArray[np.float64], given: Sequence[int]) -> list[LabelError]:
    """Find rows whose label is probably wrong.

    Args:
        probabilities: [N, L], of a model that did not learn from these rows.
        given: [N] positions of their labels.

    Returns:
        The rows, the least probable label first.
    """
    own = np.asarray(given)
    num_labels = probabilities.shape[1]
    means = [probabilities[own == one, one] for one in range(num_labels)]
    # Nothing counts for a label that nobody was given.
    thresholds = np.array([one.mean() if len(one) else np.inf for one in means])
    # Rounding must not take out the rows of a label that all have one probability.
    counts = probabilities >= thresholds - 1e-6
    likely = np.where(counts, probabilities, -1.0).argmax(axis=1)
    wrong = counts.any(axis=1) & (likely != own) & (probabilities.argmax(axis=1) != own)
    rows = np.arange(len(own))
    mine = probabilities[rows, own]
    found = sorted(np.flatnonzero(wrong), key=lambda row: (mine[row], row))
    return [
        LabelError(
            int(row),
            int(own[row]),
            int(likely[row]),
            float(mine[row]),
            float(probabilities[row, likely[row]]),
        )
        for row in found
    ]
