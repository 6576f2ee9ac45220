"""Self-training: who learns what, when it stops, and that no student judges what it learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from kamerton.core.events import Event, Notice
from kamerton.data.examples import ClassificationExample, SourceLocation
from kamerton.flows.label_gold import Gold
from kamerton.flows.label_rounds import Pair, halves, in_rounds
from kamerton.labelling.cascade import Cascade, Stage
from kamerton.labelling.teacher import Verdict

GOLD = Gold(
    [
        ClassificationExample(SourceLocation("gold", n), f"{n % 10} gold {n}", "ab"[n % 2])
        for n in range(200)
    ],
    {},
)
TEXTS = [f"{n % 10} file {n}" for n in range(100)]


@dataclass
class Knows:
    """Is sure and right of texts whose first digit is below `limit`; unsure and wrong of others."""

    limit: int
    labels: Sequence[str] = ("a", "b")
    note: str = ""
    asked: list[str] = field(default_factory=list)

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        self.asked += texts
        for place, text in enumerate(texts):
            digit = int(text[0])
            knows = digit < self.limit
            right = "ab"[digit % 2]
            yield place, Verdict(right if knows else "ba"[digit % 2], 0.9 if knows else 0.3)


def run(limits: Sequence[int], most: int = 9) -> tuple[Cascade, list[Knows], list[list[Pair]], str]:
    students = [Knows(limit) for limit in limits]
    learned: list[list[Pair]] = []

    def learn(number: int, pairs: Sequence[Pair]) -> Knows:
        learned.append(list(pairs))
        assert number == len(learned)
        return students[number]

    said: list[Event] = []
    found = in_rounds(students[0], learn, TEXTS, GOLD, 0.9, 0.95, most, said.append)
    told = " / ".join(event.message for event in said if isinstance(event, Notice))
    return found, students, learned, told


def test_students_learn_what_is_sure_and_label_the_rest() -> None:
    found, students, learned, told = run([4, 8, 8])
    assert [len(pairs) for pairs in learned] == [40, 80]
    assert all(label == "ab"[int(text[0]) % 2] for pairs in learned for text, label in pairs)
    # The second student is no better than the first.
    assert "teacher labels 40.0 % of them right / student 1, with 40 labels" in told
    assert "80.0 % right / student 2, with 80 labels of its teachers: 80.0 % right" in told
    students[1].asked.clear()
    verdicts = dict(found.judge(TEXTS))
    assert sorted(verdicts) == list(range(100))
    # What it learned comes from its teacher, and stands above all that it labels itself.
    assert not {text for text, _ in learned[0]} & set(students[1].asked)
    of = {digit: verdicts[digit] for digit in (0, 5, 9)}
    assert of[0] == Verdict("a", pytest.approx((1 + 0.9) / 2))
    assert of[5] == Verdict("b", pytest.approx(0.9 / 2))
    assert of[9] == Verdict("a", pytest.approx(0.3 / 2))


def test_it_stops_at_the_most_rounds_and_where_nothing_is_sure() -> None:
    assert len(run([4, 6, 8, 9], most=2)[2]) == 2
    found, _, learned, told = run([0, 9])
    assert learned == []
    assert "no labels are sure enough" in told
    assert len(dict(found.judge(TEXTS))) == 100


def test_a_worse_student_takes_no_part() -> None:
    found, students, _, _ = run([6, 5])
    students[1].asked.clear()
    assert dict(found.judge(TEXTS[:7]))[6] == Verdict("b", pytest.approx(0.3))
    assert students[1].asked == []


def test_halves_do_not_overlap_and_do_not_depend_on_the_order() -> None:
    first, second = halves(GOLD, lambda event: None)
    assert len(first.examples) == len(second.examples) == 100
    assert not {one.text for one in first.examples} & {one.text for one in second.examples}
    turned = Gold(list(GOLD.examples)[::-1], {})
    assert halves(turned, lambda event: None)[0].examples == first.examples


def test_a_fault_is_passed_on() -> None:
    class Refuses(Knows):
        def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
            yield from ((place, Verdict(fault="too long")) for place in range(len(texts)))

    verdicts = dict(Cascade([Stage(Refuses(9), 0.5), Stage(Knows(9), 0.0)]).judge(TEXTS[:2]))
    assert [verdicts[n].fault for n in range(2)] == ["", ""]
