"""The choice among short runs."""

import pytest

from kamerton.core.errors import SettingsError
from kamerton.training.trial import Trial, choose_rate


def trial(rate: float, loss: float | None) -> Trial:
    return Trial(rate, loss, 8)


def test_another_rate_must_be_clearly_better() -> None:
    own, high, low = trial(1e-3, 1.00), trial(3e-3, 0.99), trial(3e-4, 1.5)
    assert choose_rate([own, low, high], 3.0) == 1e-3
    assert choose_rate([own, low, trial(3e-3, 0.97)], 3.0) == 3e-3
    assert choose_rate([trial(1e-3, None), low, trial(3e-3, None)], 3.0) == 3e-4


def test_rates_that_all_do_harm_are_an_error() -> None:
    with pytest.raises(SettingsError, match="no rate down to 0.0003 made"):
        choose_rate([trial(1e-3, 3.5), trial(3e-4, 3.1), trial(3e-3, None)], 3.0)
