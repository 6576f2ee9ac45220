"""Calls of functions in answers that are still being written."""

import re
from collections.abc import Collection
from dataclasses import replace

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import AnswerUpdate
from kamerton.data.rendering.answers import overlap
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tool_calls import CallForm, find_call_form
from kamerton.inference.detokenise import read_answer

__all__ = ["CallReader", "call_form_of"]

_OPENING = re.compile(r"[{\[<`]")
"""What calls begin with in one form or another."""
_PYTHON = re.compile(r"\s*[\w.]*(\(.*)?", re.DOTALL)
"""Matches the beginning of a call as Python has it, where it is the whole text."""


class CallReader:
    """Holds back what may be calls of one answer and reads them at its end.

    Args:
        form: How the base writes calls.
        names: The functions that may be called; calls of others are text.
        several: Whether more than the first call counts.
    """

    def __init__(self, form: CallForm, names: Collection[str], *, several: bool = True) -> None:
        self._form, self._names, self._several = form, names, several
        self._held = ""
        self._is_plain = False

    def take(self, update: AnswerUpdate) -> AnswerUpdate:
        """Take more of the answer.

        Args:
            update: As the engine has it.

        Returns:
            With the text that belongs to no call; at the end, with the calls.
        """
        text = self._held + update.text
        if not update.is_last:
            held = self._held_of(text)
            text, self._held = text[: len(text) - held], text[len(text) - held :]
            self._is_plain = self._is_plain or bool(text.strip())
            return replace(update, text=text)
        at = len(text) - self._held_of(text)
        calls = self._calls(text[at:])
        if not calls:
            return replace(update, text=text)
        reason = "tool_calls" if update.finish_reason == "stop" else update.finish_reason
        return replace(update, text=text[:at].rstrip(), tool_calls=calls, finish_reason=reason)

    def _calls(self, text: str) -> tuple[ToolCall, ...]:
        calls = [call for call in self._form.read(text) if call.name in self._names]
        return tuple(calls if self._several else calls[:1])

    def _held_of(self, text: str) -> int:
        """Count the characters at the end of a text that may belong to calls."""
        if not self._is_plain and _PYTHON.fullmatch(text):
            return len(text)
        mark = self._form.mark
        places = [found.start()] if (found := _OPENING.search(text)) else []
        if mark:
            at = text.find(mark)
            places.append(at if at >= 0 else len(text) - overlap(text, mark))
        return len(text) - min(places, default=len(text))


def call_form_of(renderer: Renderer) -> CallForm:
    """Find out how a base writes calls.

    Args:
        renderer: Of the variant.

    Returns:
        The form; one that reads plain JSON where the template's cannot be read back.
    """
    return find_call_form(renderer, lambda ids: read_answer(renderer, ids)) or CallForm()
