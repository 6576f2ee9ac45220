"""Metrics of written answers that no rule calls right: loss, chrF and length."""

from collections.abc import Sequence

import numpy as np

from kamerton.evaluation import metrics
from kamerton.evaluation.checked import Checked
from kamerton.evaluation.chrf import chrf, chrf_features
from kamerton.evaluation.items import Answers, Item

__all__ = ["CHRF", "LENGTH", "LOSS", "are_short", "are_texts", "check_loss", "check_wording"]

LOSS, CHRF, LENGTH = "loss", "chrF", "length"
"""Names of the metrics."""

_SHORT_WORDS = 5


def are_texts(items: Sequence[Item]) -> bool:
    """Tell whether right answers are texts, apart from labels to choose and functions to call.

    Args:
        items: The questions.

    Returns:
        Whether they are.
    """
    return not any(item.labels or item.calls for item in items)


def are_short(items: Sequence[Item]) -> bool:
    """Tell whether right answers are so short that an answer may well be the same.

    Args:
        items: The questions.

    Returns:
        Whether half of the right answers have five words or fewer.
    """
    return float(np.median([len(item.reference.split()) for item in items])) <= _SHORT_WORDS


def check_loss(answers: Answers) -> Checked:
    """Measure how much the right answers surprise a variant.

    Args:
        answers: With their losses.

    Returns:
        The mean over the tokens of all right answers of the negative natural-log probability, the
        same number as `holdout_loss`: an item weighs as much as it has tokens.
    """
    sums = np.array(answers.losses, dtype=np.float64)
    counts = np.array(answers.loss_tokens, dtype=np.float64)
    values = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    features = np.stack([sums, counts], axis=1)
    return Checked(LOSS, values, features, metrics.mean, "lower", "nats")


def check_wording(items: Sequence[Item], texts: Sequence[str]) -> tuple[Checked, ...]:
    """Measure how like the right answers some answers are, and how long.

    Args:
        items: The questions.
        texts: The answer to each.

    Returns:
        chrF, and the characters of all answers divided by those of all right answers, of which no
        direction is better.
    """
    references = [item.reference for item in items]
    runs = chrf_features(texts, references)
    lengths = np.array(
        [(len(text.strip()), len(right)) for text, right in zip(texts, references, strict=True)],
        dtype=np.float64,
    )
    return (
        Checked(CHRF, chrf(runs), runs, chrf, unit="score"),
        Checked(LENGTH, metrics.mean(lengths), lengths, metrics.mean, "neither", "ratio"),
    )
