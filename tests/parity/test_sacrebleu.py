"""chrF is the number that sacrebleu gives, whole and item by item."""

import numpy as np
import pytest

from kamerton.evaluation.chrf import chrf, chrf_features

sacrebleu = pytest.importorskip("sacrebleu.metrics", reason="sacrebleu is not installed")

TEXTS = [
    "Добрый день! Заказ уже в пути.",
    "the cat is on the mat",
    "",
    "ab",
    "Yes",
    "A very long answer that hardly has to do with what was asked, again and again and again.",
]
RIGHT = [
    "Здравствуйте! Ваш заказ в пути.",
    "The cat sat  on the\tmat.",
    "nothing was said",
    "a",
    "Yes",
    "Short answer.",
]


def test_chrf_is_that_of_sacrebleu() -> None:
    metric = sacrebleu.CHRF(word_order=0)
    features = chrf_features(TEXTS, RIGHT)
    whole = metric.corpus_score(TEXTS, [RIGHT]).score
    assert 100 * chrf(features.sum(axis=0)) == pytest.approx(whole, abs=1e-9)
    single = [
        metric.corpus_score([text], [[right]]).score
        for text, right in zip(TEXTS, RIGHT, strict=True)
    ]
    assert 100 * chrf(features) == pytest.approx(np.array(single), abs=1e-9)
