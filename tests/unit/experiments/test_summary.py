"""One line about an arm, in both languages."""

from kamerton.core.language import speaking
from kamerton.experiments.reading import ArmReading
from kamerton.experiments.summary import in_short
from kamerton.experiments.verdict import Aspect, Measure, MetricReading, Verdict


def metric(aspect: Aspect, verdict: Verdict, relative: float | None = None) -> MetricReading:
    better = "up" if aspect == "quality" else "down"
    measure = Measure(aspect, aspect, better=better, primary=aspect == "quality")
    return MetricReading(measure, "lora", verdict, relative=relative)


def test_undecided_but_cheaper() -> None:
    arm = ArmReading(
        "lora",
        "go on",
        (
            metric("latency", "undecided", 0.02),
            metric("cost", "better", -0.408),
            metric("quality", "undecided", 0.01),
        ),
    )
    assert in_short(arm) == "quality undecided, 41 % cheaper"
    with speaking("ru"):
        assert in_short(arm) == "качество: пока не ясно, на 41 % дешевле"


def test_better_but_slower() -> None:
    arm = ArmReading(
        "lora",
        "promote",
        (
            metric("quality", "better", 0.1),
            metric("latency", "worse", 0.254),
            metric("cost", "about the same", 0.001),
        ),
    )
    assert in_short(arm) == "quality better, 25 % slower, cost about the same"
    with speaking("ru"):
        assert in_short(arm) == ("качество: лучше, на 25 % медленнее, цена: почти без разницы")


def test_hidden_says_why() -> None:
    arm = ArmReading("lora", "investigate", (metric("quality", "hidden"), metric("cost", "hidden")))
    assert in_short(arm) == "quality hidden: the arms are not comparable"
