"""Probable errors in labels, as cleanlab finds them."""

import numpy as np

from kamerton.labelling.confident import LabelError, find_label_errors


def test_it_finds_what_cleanlab_finds() -> None:
    rng = np.random.default_rng(0)
    true, logits = rng.integers(0, 4, 300), rng.normal(0, 1, (300, 4))
    logits[np.arange(300), true] += 2.0
    logits[:, 0] += 0.5
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(1, keepdims=True)
    given = np.where(rng.random(300) < 0.1, rng.integers(0, 4, 300), true)
    found = [one.row for one in find_label_errors(probabilities, given.tolist())]
    # cleanlab 2.9: find_label_issues(given, probabilities, filter_by="confident_learning",
    # return_indices_ranked_by="self_confidence")
    assert found == [290, 18, 4, 208, 168, 187, 246, 71, 232, 85, 275, 28, 64, 228, 226, 241, 25]
    # Of these 17, 9 are wrong: people must look.
    assert sum(given[row] != true[row] for row in found) == 9


def test_a_label_is_held_to_its_own_mean() -> None:
    # The model is never sure of label 1: its rows are no errors for that.
    rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.6, 0.4], [0.95, 0.05], [0.2, 0.8]])
    found = find_label_errors(rows, [0, 0, 1, 1, 1, 0])
    # Means are 0.633 of label 0 and 0.3 of label 1.
    assert found == [
        LabelError(4, 1, 0, 0.05, 0.95),
        LabelError(5, 0, 1, 0.2, 0.8),
    ]


def test_a_label_that_nobody_has_is_never_the_likely_one() -> None:
    rows = np.array([[0.4, 0.6], [0.3, 0.7]])
    assert find_label_errors(rows, [0, 0]) == []
