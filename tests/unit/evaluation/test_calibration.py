"""How sure a model may be of a label."""

import math

import numpy as np
import pytest

from kamerton.core.protocols import Score
from kamerton.evaluation.calibration import (
    Calibration,
    calibration_error,
    fit_calibration,
    probabilities,
)


def scores(*logprobs: float, tokens: tuple[int, ...] = ()) -> list[Score]:
    return [Score(value, tokens[place] if tokens else 1) for place, value in enumerate(logprobs)]


def test_probabilities_are_a_softmax_over_the_labels() -> None:
    own = scores(math.log(0.6), math.log(0.2), tokens=(2, 1))
    assert probabilities(own, Calibration()) == pytest.approx([0.75, 0.25])
    roots = np.array([0.6, 0.2]) ** 0.5
    assert probabilities(own, Calibration(temperature=2.0)) == pytest.approx(roots / roots.sum())
    mean = np.array([0.6**0.5, 0.2])
    per_token = probabilities(own, Calibration(length_normalised=True))
    assert per_token == pytest.approx(mean / mean.sum())


def test_the_temperature_is_that_of_the_least_log_loss() -> None:
    # The likelier of two labels is right three times of four, whatever the model thinks of it:
    # the temperature must make log(9) nats log(3) nats.
    own = [scores(0.0, -math.log(9))] * 400
    right = [0 if n % 4 else 1 for n in range(400)]
    found = fit_calibration(own, right, length_normalised=False)
    assert found.temperature == pytest.approx(2.0, rel=0.01)
    assert found.accuracy == 0.75
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.log_loss == pytest.approx(expected, rel=1e-4)
    assert found.num_items == 400


def test_the_form_of_the_labels_is_the_one_that_is_right_more_often() -> None:
    # The long label always has the lower sum: only its mean says when it is right.
    long_right = scores(-4.0, -3.0, tokens=(4, 1))
    short_right = scores(-8.0, -1.0, tokens=(4, 1))
    own, right = [long_right, short_right] * 20, [0, 1] * 20
    assert fit_calibration(own, right, length_normalised=False).length_normalised
    assert fit_calibration(own, right, length_normalised=True).accuracy == 1.0


@pytest.mark.parametrize("form", [True, False])
def test_few_examples_fit_nothing(form: bool) -> None:
    found = fit_calibration([scores(0.0, -1.0)] * 19, [0] * 19, form)
    assert found == Calibration(length_normalised=form)


def test_the_error_is_the_distance_of_confidence_and_share_right() -> None:
    sure = [0.9] * 50 + [0.6] * 50
    right = [n % 10 < 7 for n in range(50)] + [n % 10 < 6 for n in range(50)]
    found = calibration_error(sure, right, num_bins=2)
    # Half of the items are 0.2 off, half are not.
    assert found.value == pytest.approx(0.1)
    assert 0 <= found.low < found.value < found.high < 0.3
    assert calibration_error([1.0] * 30, [True] * 30).high == 0
