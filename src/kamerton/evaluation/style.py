"""Style: does a text sound like the brand's texts, told by a small classifier trained on them.

Logistic regression over the frequencies of hashed character n-grams (TF-IDF). A text's score is a
mean over its n-grams, so the length of a text has no weight of its own, and n-grams never cross
the ends of a word, so the beginning and the end of a text are nothing special.

Letters: N texts, D hashed features.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kamerton.core.seeds import derive_seed
from kamerton.evaluation.jackknife import FEW_ROWS, value_interval
from kamerton.evaluation.metrics import balanced_mean, placement_features
from kamerton.evaluation.reliability import StyleReliability
from kamerton.evaluation.settings import StyleCheck
from kamerton.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap,
    bootstrap_interval,
    sum_groups,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "FEWEST_TEXTS",
    "FittedStyle",
    "Passage",
    "StyleClassifier",
    "fit_style",
    "measure_reliability",
    "without_frame",
]

FEWEST_TEXTS = 20
"""Fewer texts on a side are no sample of a style."""

_NUM_FEATURES = 1 << 16
_SIZES = (2, 3, 4)
_NUM_FOLDS = 5
_STRENGTH = 1.0
"""Weight of the squared weights against the loss of one text; 1/C of scikit-learn."""
_RESAMPLES = 2_000
_DIGIT = re.compile(r"\d")
_NEAR_CONSTANT = 1e-9


class Passage(NamedTuple):
    """A text and what it belongs to.

    Attributes:
        text: Not empty.
        group: Passages of one group, such as a text and its rewriting, are judged by a classifier
            that saw none of them.
    """

    text: str
    group: str


@dataclass(frozen=True, eq=False, slots=True)
class StyleClassifier:
    """Tells the brand's texts from others.

    Attributes:
        idf: Weight of each feature by how few texts have it, [D].
        weights: What each feature says for the brand, [D].
        bias: Added to the score.
    """

    idf: Floats
    weights: Floats
    bias: float

    def sounds_like_brand(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Judge texts.

        Args:
            texts: N texts.

        Returns:
            Whether each is more likely the brand's than another's, both being equally frequent,
            [N]; an empty text is never.
        """
        counts = _frequencies(texts)
        scores = counts @ (self.idf * self.weights) + self.bias
        return np.asarray((scores > 0) & (counts.sum(axis=1) > 0))


@dataclass(frozen=True, eq=False, slots=True)
class FittedStyle:
    """A style check with its classifier.

    Attributes:
        check: The check that was asked for.
        classifier: Trained on all texts.
        reliability: How well such a classifier judges texts that it did not see.
    """

    check: StyleCheck
    classifier: StyleClassifier
    reliability: StyleReliability

    @property
    def title(self) -> str:
        """The check's name."""
        return self.check.title

    @property
    def only_if(self) -> str | None:
        """Column that must be filled in."""
        return self.check.only_if


def fit_style(brand: Sequence[str], others: Sequence[str]) -> StyleClassifier:
    """Train a classifier; the same texts always give the same one.

    Args:
        brand: The brand's texts.
        others: Texts that are not the brand's. Both sides weigh the same, however many they are.

    Returns:
        The classifier.
    """
    is_brand = np.repeat([True, False], [len(brand), len(others)])
    return _fit(_frequencies([*brand, *others]), is_brand)


def measure_reliability(
    title: str,
    against: str,
    brand: Sequence[Passage],
    others: Sequence[Passage],
    confidence_level: float = 0.95,
    seed: int = 0,
) -> StyleReliability:
    """Judge every text by a classifier that saw neither it nor anything of its group.

    Args:
        title: The check's name.
        against: What the other texts are, such as `the questions`.
        brand: The brand's texts.
        others: The other texts.
        confidence_level: Coverage of the interval.
        seed: Draws the folds.

    Returns:
        The mean of the shares of both sides that are judged right, with its interval over groups.
    """
    passages = [*brand, *others]
    is_brand = np.repeat([True, False], [len(brand), len(others)])
    groups = [passage.group for passage in passages]
    counts = _frequencies([passage.text for passage in passages])
    folds = _folds(groups, is_brand, seed)
    taken = np.zeros(len(passages), dtype=bool)
    for fold in range(_NUM_FOLDS):
        held = folds == fold
        found = _fit(counts[~held], is_brand[~held])
        taken[held] = counts[held] @ (found.idf * found.weights) + found.bias > 0
    items = placement_features((taken == is_brand).astype(np.float64), is_brand)
    rows = sum_groups(items, groups)
    value = float(balanced_mean(rows.sum(axis=0)))
    interval = _interval(rows, items, value, confidence_level, seed)
    return StyleReliability(
        metric=title,
        against=against,
        num_brand=len(brand),
        num_others=len(others),
        balanced_accuracy=value,
        low=interval.low,
        high=interval.high,
        brand_recognised=float(taken[is_brand].mean()),
        others_mistaken=float(taken[~is_brand].mean()),
    )


def without_frame(texts: Sequence[str], answers: Sequence[str] = ()) -> list[str]:
    """Take away the words that all texts begin or end with, such as "Rewrite politely:".

    Args:
        texts: Texts.
        answers: What is said to them: words that one of these begins or ends with too stay.

    Returns:
        What differs; empty where nothing does.
    """
    words = [text.split() for text in texts]
    spoken = [answer.split() for answer in answers]
    begin = _frame(words, spoken)
    rest = [each[begin:][::-1] for each in words]
    end = _frame(rest, [answer[::-1] for answer in spoken])
    return [" ".join(each[end:][::-1]) for each in rest]


def _frame(words: Sequence[list[str]], spoken: Sequence[list[str]]) -> int:
    """Count the words that all texts begin with, up to those that an answer begins with too."""
    if len(words) < 2:
        return 0
    first = words[0]
    num = 0
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        num += 1
    return next(
        (
            start
            for start in range(num)
            if any(answer[: num - start] == first[start:num] for answer in spoken)
        ),
        num,
    )


def _interval(
    rows: Floats, items: Floats, value: float, confidence_level: float, seed: int
) -> Interval:
    if len(rows) >= FEW_ROWS:
        samples = bootstrap([rows], balanced_mean, _RESAMPLES, derive_seed(seed, "style"))[:, 0]
        if np.ptp(samples[~np.isnan(samples)]) > _NEAR_CONSTANT:
            return bootstrap_interval(samples, value, confidence_level)
    return value_interval(rows, items, balanced_mean, confidence_level)


def _folds(groups: Sequence[str], is_brand: NDArray[np.bool_], seed: int) -> NDArray[np.int_]:
    """Deal whole groups into folds, so that each fold has its share of both sides."""
    sides: dict[str, set[bool]] = {}
    for group, side in zip(groups, is_brand.tolist(), strict=True):
        sides.setdefault(group, set()).add(side)
    names = list(sides)
    order = np.random.default_rng(derive_seed(seed, "style folds")).permutation(len(names))
    dealt = sorted(order.tolist(), key=lambda position: sorted(sides[names[position]]))
    fold_of = {names[position]: place % _NUM_FOLDS for place, position in enumerate(dealt)}
    return np.array([fold_of[group] for group in groups])


def _frequencies(texts: Sequence[str]) -> "csr_array":
    """Count hashed n-grams of each text, divided by their number, [N, D]."""
    from scipy.sparse import csr_array

    columns: list[int] = []
    shares: list[float] = []
    ends = [0]
    seen: dict[str, int] = {}
    for text in texts:
        found = [
            seen.setdefault(gram, crc32(gram.encode()) % _NUM_FEATURES)
            for word in _DIGIT.sub("0", text).split()
            for gram in _grams(f" {word} ")
        ]
        columns += found
        shares += [1 / len(found)] * len(found) if found else []
        ends.append(len(columns))
    table = csr_array((shares, columns, ends), shape=(len(texts), _NUM_FEATURES))
    table.sum_duplicates()
    return table


def _grams(word: str) -> list[str]:
    return [
        word[start : start + size]
        for size in _SIZES
        for start in range(max(len(word) - size + 1, 0))
    ]


def _fit(counts: "csr_array", is_brand: NDArray[np.bool_]) -> StyleClassifier:
    from scipy.optimize import minimize

    num = len(is_brand)
    having = np.bincount(counts.indices, minlength=_NUM_FEATURES)
    idf = np.log((1 + num) / (1 + having)) + 1
    scaled = counts.multiply(idf[None, :]).tocsr()
    # One factor for all texts, so that the strength means the same for long and for short ones.
    size = math.sqrt(float((scaled.data**2).sum()) / num) or 1.0
    scaled = scaled / size
    sign = np.where(is_brand, 1.0, -1.0)
    share = np.where(is_brand, 0.5 / is_brand.sum(), 0.5 / (~is_brand).sum())

    def loss(point: Floats) -> tuple[float, Floats]:
        weights, bias = point[:-1], point[-1]
        margins = sign * (scaled @ weights + bias)
        pulls = -share * sign / (1 + np.exp(np.clip(margins, -700, 700)))
        value = share @ np.logaddexp(0, -margins) + _STRENGTH / num / 2 * weights @ weights
        slope = np.append(scaled.T @ pulls + _STRENGTH / num * weights, pulls.sum())
        return float(value), slope

    found = minimize(loss, np.zeros(_NUM_FEATURES + 1), jac=True, method="L-BFGS-B")
    return StyleClassifier(idf, found.x[:-1] / size, float(found.x[-1]))
