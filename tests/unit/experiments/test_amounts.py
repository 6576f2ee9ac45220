"""Numbers as people write them."""

import math

import pytest

from kamerton.core.language import speaking
from kamerton.experiments.amounts import (
    count_text,
    difference_text,
    interval_text,
    percent_text,
    value_text,
)
from kamerton.experiments.effects import Interval
from kamerton.experiments.verdict import Measure

SHARE = Measure("thumbs", bounds=(0.0, 1.0))
LATENCY = Measure("latency", "latency", better="down")
COST = Measure("cost", "cost", better="down")
RATING = Measure("rating", bounds=(1.0, 5.0))


@pytest.mark.parametrize(
    ("measure", "value", "english", "russian"),
    [
        (SHARE, 0.7871, "78.7 %", "78,7 %"),
        (LATENCY, 1.234, "1.23 s", "1,23 с"),
        (COST, 0.0012, "0.0012", "0,0012"),
        (RATING, 3.731, "3.73", "3,73"),
    ],
)
def test_values(measure, value, english, russian):
    assert value_text(measure, value) == english
    with speaking("ru"):
        assert value_text(measure, value) == russian


@pytest.mark.parametrize(
    ("measure", "value", "english", "russian"),
    [
        (SHARE, 0.0925, "+9.2 points", "+9,2 п. п."),
        (LATENCY, -0.407, "-0.407 s", "-0,407 с"),
        (COST, -0.0008, "-0.0008", "-0,0008"),
    ],
)
def test_differences(measure, value, english, russian):
    assert difference_text(measure, value) == english
    with speaking("ru"):
        assert difference_text(measure, value) == russian


def test_intervals():
    assert interval_text(SHARE, Interval(0.037, 0.148)) == "+3.7 to +14.8 points"
    with speaking("ru"):
        assert interval_text(SHARE, Interval(-0.037, 0.148)) == "от -3,7 до +14,8 п. п."
    assert interval_text(LATENCY, Interval(-0.5, -0.25)) == "-0.5 to -0.25 s"
    assert interval_text(COST, Interval(-math.inf, math.inf)) == ""


def test_counts_and_percent():
    assert count_text(3498) == "3,498"
    with speaking("ru"):
        assert count_text(3498.4) == "3\N{NO-BREAK SPACE}498"
    assert percent_text(0.123, signed=True) == "+12 %"
    with speaking("ru"):
        assert percent_text(-0.408, digits=1) == "-40,8 %"
