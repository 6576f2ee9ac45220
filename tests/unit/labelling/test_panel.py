"""Several teachers as one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from kamerton.labelling.panel import Panel, agreed
from kamerton.labelling.teacher import Verdict

A, B, NONE = Verdict("a", 0.9), Verdict("b", 0.6), Verdict(fault="format", said="hm")


@pytest.mark.parametrize(
    ("verdicts", "label", "confidence"),
    [
        ([A], "a", 0.9),
        ([A, A, A], "a", 0.9),
        ([A, B, B], "b", 0.4),
        ([A, B], "a", 0.45),
        ([A, NONE], "a", 0.45),
    ],
)
def test_confidence_is_what_agrees(
    verdicts: Sequence[Verdict], label: str, confidence: float
) -> None:
    found = agreed(verdicts)
    assert (found.label, found.confidence) == (label, pytest.approx(confidence))


def test_without_any_label_it_is_a_fault() -> None:
    assert agreed([NONE, Verdict(fault="refusal")]) == NONE


@dataclass
class Knows:
    verdicts: Mapping[int, Verdict]
    labels: Sequence[str]
    note: str = ""

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        yield from self.verdicts.items()


def test_who_was_not_asked_leaves_the_text_open() -> None:
    panel = Panel([Knows({0: A, 1: A}, ["a"]), Knows({1: A, 2: B}, ["b", "a"])], lambda event: None)
    assert panel.labels == ("a", "b")
    assert [number for number, _ in panel.judge(["x", "y", "z"])] == [1]
