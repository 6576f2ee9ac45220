"""How sure a model may be of a label: probabilities over labels, and one temperature for them.

A temperature divides log-probabilities before they are normalised (Guo et al. 2017,
arXiv:1706.04599). It changes no choice of label, only how sure it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kamerton.core.protocols import Score

__all__ = [
    "FEWEST_ITEMS",
    "Calibration",
    "CalibrationError",
    "calibration_error",
    "fit_calibration",
    "probabilities",
]

FEWEST_ITEMS = 20
"""Fewer say too little about how sure a model may be."""
_LOWEST, _HIGHEST, _STEPS = 0.02, 50.0, 60
_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How log-probabilities of labels become a confidence.

    Attributes:
        temperature: Divides the log-probabilities; above 0. Above 1 the model was too sure.
        length_normalised: Whether labels are compared by the mean over tokens, else by the sum.
        num_items: Examples that it was fitted on; 0 where it was not fitted.
        log_loss: Mean negative log-probability of the right labels of these, natural logarithm.
        accuracy: Share of these whose likeliest label is right.
    """

    temperature: float = 1.0
    length_normalised: bool = False
    num_items: int = 0
    log_loss: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error with its interval.

    Attributes:
        value: Mean over items of the distance of confidence and share right in an item's bin.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def probabilities(scores: Sequence[Score], how: Calibration) -> _Array:
    """Give the probability of each label among all.

    Args:
        scores: The labels' scores.
        how: The temperature, and how labels of different lengths are compared.

    Returns:
        [L], sums to 1.
    """
    return np.asarray(
        _softmax(_worths([scores], how.length_normalised)[0] / how.temperature), np.float64
    )


def fit_calibration(
    scores: Sequence[Sequence[Score]], right: Sequence[int], length_normalised: bool
) -> Calibration:
    """Fit the temperature, and choose how labels of different lengths are compared.

    Args:
        scores: [N][L] scores of all labels for each item.
        right: [N] position of the right label.
        length_normalised: What is taken where too few items can tell.

    Returns:
        The form and temperature with the lowest log loss; not fitted below `FEWEST_ITEMS`.
    """
    if len(right) < FEWEST_ITEMS:
        return Calibration(length_normalised=length_normalised)
    places = np.asarray(right)
    # The first of equals wins: that is how the variant is compared otherwise.
    forms = [length_normalised, not length_normalised]
    return min((_fit(_worths(scores, form), places, form) for form in forms), key=_loss)


def _loss(found: Calibration) -> float:
    assert found.log_loss is not None, "it was fitted"
    return found.log_loss


def _fit(worths: _Array, right: NDArray[Any], form: bool) -> Calibration:
    """Search the temperature on a grid, then once more around the best of it."""
    grid = np.geomspace(_LOWEST, _HIGHEST, _STEPS)
    losses = [_log_loss(worths, right, one) for one in grid]
    best = int(np.argmin(losses))
    fine = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, _STEPS - 1)], _STEPS)
    temperature = float(min(fine, key=lambda one: _log_loss(worths, right, float(one))))
    accuracy = float(np.mean(worths.argmax(axis=1) == right))
    return Calibration(
        temperature, form, len(right), _log_loss(worths, right, temperature), accuracy
    )


def _log_loss(worths: _Array, right: NDArray[Any], temperature: float) -> float:
    probability = _softmax(worths / temperature)[np.arange(len(right)), right]
    return float(-np.log(np.maximum(probability, 1e-12)).mean())


def _worths(scores: Sequence[Sequence[Score]], length_normalised: bool) -> _Array:
    return np.array(
        [
            [
                one.logprob / max(one.num_tokens, 1) if length_normalised else one.logprob
                for one in r
            ]
            for r in scores
        ]
    )


def _softmax(values: _Array) -> _Array:
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float64)


def calibration_error(
    confidence: Sequence[float],
    is_right: Sequence[bool],
    num_bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> CalibrationError:
    """Measure by how much confidence and share right differ, in bins of equally many items.

    Args:
        confidence: [N] of the chosen labels.
        is_right: [N] whether the chosen label was right.
        num_bins: Bins; fewer where there are fewer items.
        resamples: Bootstrap resamples for the interval.
        seed: Of the bootstrap.

    Returns:
        The error, 0 to 1. It is above 0 by chance even for a perfectly calibrated model: about
        0.05 with 200 items.
    """
    sure, right = np.asarray(confidence, float), np.asarray(is_right, float)
    rng = np.random.default_rng(seed)
    drawn = [
        _binned_error(sure[chosen], right[chosen], num_bins)
        for chosen in rng.integers(0, len(sure), (resamples, len(sure)))
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return CalibrationError(_binned_error(sure, right, num_bins), float(low), float(high))


def _binned_error(sure: _Array, right: _Array, num_bins: int) -> float:
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    return float(sum(abs((sure[one] - right[one]).sum()) for one in bins) / len(order))
