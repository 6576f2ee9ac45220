"""The teacher seam: whatever gives a text one of the labels, and says how sure it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Fault", "Teacher", "Verdict"]

Fault = Literal["", "refusal", "format", "too long", "not asked"]
"""Why there is no label: the teacher declines, names none of the labels, cannot read so much, or
was not asked because the budget was spent."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a teacher says of a text.

    Attributes:
        label: One of the labels; empty where there is none.
        confidence: 0 to 1.
        fault: Why there is no label.
        said: What it said in place of a label, for people.
    """

    label: str = ""
    confidence: float = 0.0
    fault: Fault = ""
    said: str = ""


class Teacher(Protocol):
    """Labels texts."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels to choose from."""
        ...

    @property
    def note(self) -> str:
        """What is shown beside the progress, such as the cost; empty for nothing."""
        ...

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        """Label texts, giving each position and verdict as soon as it is known."""
        ...
