"""Krippendorff's alpha against the values that his own example has."""

import pytest

from kamerton.evaluation.agreement import krippendorff_alpha

# Computing Krippendorff's Alpha-Reliability (2011), section E: four observers, twelve units.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
UNITS = [
    [int(value) for value in column if value != "."]
    for column in zip(*(row.split() for row in OBSERVERS), strict=True)
]


@pytest.mark.parametrize(("is_number", "alpha"), [(False, 0.743), (True, 0.849)])
def test_the_published_example(is_number, alpha):
    assert krippendorff_alpha(UNITS, is_number=is_number) == pytest.approx(alpha, abs=5e-4)


def test_ends():
    assert krippendorff_alpha([[1, 1], [0, 0]], is_number=False) == 1.0
    assert krippendorff_alpha([[1, 0], [0, 1]], is_number=False) == pytest.approx(-0.5)
    assert krippendorff_alpha([["a"], ["b"]], is_number=False) is None
    assert krippendorff_alpha([[1, 1], [1, 1]], is_number=True) is None
