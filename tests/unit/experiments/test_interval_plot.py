"""Where intervals are drawn."""

import math

from kamerton.experiments.effects import Interval
from kamerton.experiments.interval_plot import IntervalPlot


def test_all_of_an_interval_is_shown_in_proportion():
    found = IntervalPlot.of(0.5, Interval(0.25, 0.75), 0.25)
    # From -0.25 to 0.75 and 8 % beside it: 116 parts.
    assert found.small == (6.9, 50.0)
    assert (found.zero, found.low, found.point, found.high) == (28.45, 50.0, 71.55, 93.1)


def test_an_endless_interval_has_no_ends():
    found = IntervalPlot.of(-2.0, Interval(-math.inf, math.inf), 0.0)
    assert (found.low, found.high, found.small) == (None, None, None)
    assert (found.point, found.zero) == (6.9, 93.1)


def test_no_difference_at_all_is_drawn_too():
    found = IntervalPlot.of(0.0, Interval(0.0, 0.0), 0.0)
    assert 0 < found.point == found.zero < 100
