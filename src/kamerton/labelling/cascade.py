"""Teachers in a row, for self-training: each labels what those before it were not sure of.

A student that has learned a label is sure of it, right or wrong, so it must not judge rows that it
learned from. In a row of stages it never does: it learned from rows that earlier stages kept, and
labels the others. Whatever happens to a row of the file happens to a gold row in the same way, so
that gold rows prove the precision of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kamerton.labelling.teacher import Teacher, Verdict

__all__ = ["Cascade", "Stage"]


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One teacher of a row.

    Attributes:
        teacher: Labels what comes to it.
        threshold: It keeps labels of at least this confidence; the last stage keeps all.
    """

    teacher: Teacher
    threshold: float


class Cascade:
    """A row of teachers.

    Args:
        stages: At least one.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        assert stages
        self._stages = stages

    @property
    def labels(self) -> Sequence[str]:
        """The labels of the first."""
        return self._stages[0].teacher.labels

    @property
    def note(self) -> str:
        """What the first shows."""
        return self._stages[0].teacher.note

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        """Label texts.

        Args:
            texts: What to label.

        Yields:
            Position and verdict. The confidence of an earlier stage is above that of all later
            ones: stage k of n has (n - 1 - k + confidence) / n.
        """
        left, num = list(range(len(texts))), len(self._stages)
        for at, stage in enumerate(self._stages):
            passed_on = []
            is_last = at == num - 1
            for place, verdict in stage.teacher.judge([texts[number] for number in left]):
                if is_last or (not verdict.fault and verdict.confidence >= stage.threshold):
                    above = (num - 1 - at + verdict.confidence) / num
                    found = verdict if verdict.fault else replace(verdict, confidence=above)
                    yield left[place], found
                else:
                    passed_on.append(left[place])
            left = sorted(passed_on)
