"""What is kept of requests and feedback."""

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from typing import Literal

from kamerton.data.privacy.redaction import Redactor
from kamerton.store.feedback import Feedback
from kamerton.store.traffic import RequestRow

__all__ = ["RecordPolicy", "TextPolicy"]

TextPolicy = Literal["none", "redacted", "full"]
"""What of prompts and answers is stored."""


@dataclass(frozen=True, slots=True)
class RecordPolicy:
    """What is kept.

    Attributes:
        text: Whether prompts and answers are stored, and whether personal data is masked first.
            Comments and corrections, which people send to be kept, are masked except by "full".
        unit_secret: Key that units, conversations and raters are hashed with; empty stores them
            as given.
    """

    text: TextPolicy = "none"
    unit_secret: bytes = field(default=b"", repr=False)

    def hidden(self, unit: str) -> str:
        """Give the id that is stored for a unit, a conversation or a rater.

        Args:
            unit: As the client sent it.

        Returns:
            The same one, or its keyed hash; the same id has the same hash.
        """
        if not unit or not self.unit_secret:
            return unit
        return hmac.new(self.unit_secret, unit.encode(), hashlib.sha256).hexdigest()[:32]

    def kept(self, row: RequestRow) -> RequestRow:
        """Take from a row what is not to be kept; masking takes milliseconds.

        Args:
            row: With texts.

        Returns:
            What may be stored.
        """
        if self.text == "full":
            return row
        if self.text == "none":
            return replace(row, prompt=None, answer=None)
        # Numbers are counted for each request alone: a memory of all values would be personal data.
        redactor = Redactor()
        return replace(
            row, prompt=_masked(redactor, row.prompt), answer=_masked(redactor, row.answer)
        )

    def kept_feedback(self, feedback: Feedback) -> Feedback:
        """Take from a judgement what is not to be kept.

        Args:
            feedback: As it came.

        Returns:
            What may be stored.
        """
        feedback = replace(feedback, rater=self.hidden(feedback.rater))
        if self.text == "full":
            return feedback
        redactor = Redactor()
        return replace(
            feedback,
            comment=_masked(redactor, feedback.comment),
            correction=_masked(redactor, feedback.correction),
        )


def _masked(redactor: Redactor, text: str | None) -> str | None:
    if text is None:
        return None
    masked: str = redactor.redact_value(text)
    return masked
