"""Metrics as functions of counts, and the form in which texts are compared."""

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kamerton.evaluation.statistics import Floats

__all__ = [
    "balanced_mean",
    "class_features",
    "f1",
    "macro_f1",
    "mean",
    "mean_features",
    "normalise",
    "perplexity",
    "placement_features",
    "placements",
]


def normalise(text: str) -> str:
    """Bring a text to the form in which texts are compared.

    Args:
        text: Anything.

    Returns:
        The text in NFKC without case, with single spaces and none at its ends.
    """
    # Lower case may undo the normal form, hence the second NFKC.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def perplexity(loss: float) -> float:
    """Turn a mean loss per token into perplexity.

    Args:
        loss: Mean over tokens of the negative natural-log probability.

    Returns:
        exp(loss); infinity where that is too large for a float.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def mean_features(values: Floats) -> Floats:
    """Make the features of a mean.

    Args:
        values: One per item, [n]; NaN where an item is not counted.

    Returns:
        Sum and count, [n, 2].
    """
    counted = ~np.isnan(values)
    return np.stack([np.where(counted, values, 0.0), counted.astype(np.float64)], axis=1)


def mean(sums: Floats) -> Floats:
    """Divide sum by count.

    Args:
        sums: Sums of `mean_features`, [..., 2].

    Returns:
        The mean, [...]; NaN where nothing was counted.
    """
    return _ratio(sums[..., 0], sums[..., 1], math.nan)


def placements(worths: Floats, is_desirable: NDArray[np.bool_]) -> Floats:
    """Say how each judged answer stands among those with the other verdict.

    Args:
        worths: The model's worth of each answer, [n].
        is_desirable: Whether it was liked, [n]; both verdicts are there.

    Returns:
        Of a liked answer the share of disliked ones that are worth less, of a disliked one the
        share of liked ones that are worth more, ties half, [n]. The mean over the liked ones, and
        that over the disliked ones, is the area under the ROC curve.
    """
    found = np.empty(len(worths))
    for side, sign in ((is_desirable, 1.0), (~is_desirable, -1.0)):
        others = np.sort(sign * worths[~side])
        own = sign * worths[side]
        below, upto = (np.searchsorted(others, own, side=edge) for edge in ("left", "right"))
        found[side] = (below + upto) / 2 / len(others)
    return found


def placement_features(values: Floats, is_desirable: NDArray[np.bool_]) -> Floats:
    """Make the features of a mean that both verdicts have half a share in.

    Args:
        values: Values that `placements` gives, [n].
        is_desirable: The verdicts, [n].

    Returns:
        Sum and count of the liked ones, then of the disliked ones, [n, 4].
    """
    columns = [values * is_desirable, is_desirable, values * ~is_desirable, ~is_desirable]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def balanced_mean(sums: Floats) -> Floats:
    """Average the means of two classes.

    Args:
        sums: Sums of `placement_features`, [..., 4].

    Returns:
        The mean, [...]; NaN where a class is missing.
    """
    first = _ratio(sums[..., 0], sums[..., 1], math.nan)
    return (first + _ratio(sums[..., 2], sums[..., 3], math.nan)) / 2


def class_features(
    predicted: Sequence[str | None], gold: Sequence[str | None], classes: Sequence[str]
) -> Floats:
    """Make the features of F1: per class what was hit, what was predicted and what was true.

    Args:
        predicted: One per item; None when no class was named.
        gold: The right class per item; None where an item is not counted.
        classes: C classes to measure.

    Returns:
        Zeros and ones, [n, 3 * C]: hits, predictions, truths.
    """
    positions = {name: position for position, name in enumerate(classes)}
    features = np.zeros((len(gold), 3, len(classes)))
    for row, (guess, truth) in enumerate(zip(predicted, gold, strict=True)):
        if truth is None:
            continue
        if guess in positions:
            features[row, 1, positions[guess]] = 1
        if truth in positions:
            features[row, 2, positions[truth]] = 1
            features[row, 0, positions[truth]] = float(guess == truth)
    return features.reshape(len(gold), -1)


def f1(sums: Floats) -> Floats:
    """Compute F1 of one class.

    Args:
        sums: Sums of `class_features` for one class, [..., 3].

    Returns:
        F1, [...]; 0 where the class was neither predicted nor true.
    """
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2], 0.0)


def macro_f1(sums: Floats) -> Floats:
    """Average F1 over the classes that are true somewhere, each class counting the same.

    Args:
        sums: Sums of `class_features`, [..., 3 * C].

    Returns:
        Mean F1, [...]; NaN where no item was counted.
    """
    counts = sums.reshape(*sums.shape[:-1], 3, -1)
    hits, predicted, true = counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]
    scores = _ratio(2 * hits, predicted + true, 0.0)
    # A class missing from a resample says nothing about the variant.
    present = true > 0
    return _ratio((scores * present).sum(axis=-1), present.sum(axis=-1), math.nan)


def _ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    result = np.full(np.shape(above), otherwise)
    np.divide(above, below, out=result, where=below > 0)
    return result
