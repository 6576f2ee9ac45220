"""Corrections for many tests, by hand and against scipy."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from kamerton.core.many_tests import benjamini_hochberg, holm


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_benjamini_and_hochberg_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for num in (1, 2, 7, 40):
        p_values = rng.random(num) ** 2
        found = benjamini_hochberg(p_values.tolist())
        assert found == pytest.approx(false_discovery_control(p_values).tolist())
    assert benjamini_hochberg([]) == []
