"""Metrics of written answers that no rule calls right: loss, chrF and length."""

from collections.abc import Sequence

import numpy as np

from kamerton.core.language import translated
from kamerton.evaluation import metrics
from kamerton.evaluation.checked import Checked
from kamerton.evaluation.chrf import chrf, chrf_features
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.results import Comparison, Unit

__all__ = [
    "CHRF",
    "LENGTH",
    "LOSS",
    "are_short",
    "are_texts",
    "check_loss",
    "check_wording",
    "explained",
]

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


def explained(comparison: Comparison) -> dict[str, str]:
    """Say in plain words what the metrics of labels and of texts are.

    Args:
        comparison: The comparison that was found.

    Returns:
        A sentence without a full stop for each of these metrics that it has.
    """
    sentences: dict[tuple[str, Unit], str] = {
        (LOSS, "nats"): translated(
            "how much your texts surprise a variant; the lower, the more it expects such texts"
        ),
        (CHRF, "score"): translated(
            "how many runs of one to six characters an answer shares with the right one; 100 is "
            "the same text"
        ),
        (LENGTH, "ratio"): translated("how long the answers are; 100 is as long as yours"),
    }
    if comparison.kind == "labels":
        sentences |= {
            ("accuracy", "share"): translated("how many of the answers are right"),
            ("macro-F1", "share"): translated(
                "how well each label is found, on average: a rare label counts as much as a "
                "common one"
            ),
        }
    # A check of the user's may have the same name.
    named = zip(comparison.metrics, comparison.units, strict=True)
    return {name: sentences[name, unit] for name, unit in named if (name, unit) in sentences}


def check_loss(answers: Answers) -> Checked:
    """Measure how much the right answers surprise a variant.

    Args:
        answers: With their losses.

    Returns:
        The negative natural-log probability of all right answers divided by the number of their
        tokens, as `holdout_loss` is: an item weighs as much as it has tokens.
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
