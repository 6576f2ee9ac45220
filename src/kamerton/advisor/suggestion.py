"""A suggestion: one sentence of what to do next, and the command that does it."""

from dataclasses import dataclass

__all__ = ["Suggestion"]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to do next.

    Attributes:
        text: What was seen and what to do, in the user's language, without a full stop.
        command: The command to paste; empty where there is none.
    """

    text: str
    command: str = ""
