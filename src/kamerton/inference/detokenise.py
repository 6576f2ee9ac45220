"""Turning ids into text as they come, without cutting characters or stop texts in half."""

from typing import Any

__all__ = ["TextStream"]


class TextStream:
    """The growing text of one answer.

    Args:
        tokenizer: A Transformers tokenizer.
        stop: Texts that end the answer and are not part of it.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._settled = 0
        self._read = 0
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Take one more token.

        Args:
            token: Its id.

        Returns:
            The text that is now certain; may be empty.
        """
        self._ids.append(token)
        # Decoding a few ids of context keeps spaces and joined characters right.
        before = self._decode(self._ids[self._settled : self._read])
        now = self._decode(self._ids[self._settled :])
        if now.endswith("\ufffd") and len(self._ids) - self._read < 8:
            return ""
        self._settled, self._read = self._read, len(self._ids)
        return self._release(now[len(before) :])

    def finish(self) -> str:
        """End the answer.

        Returns:
            What was held back.
        """
        before = self._decode(self._ids[self._settled : self._read])
        rest = self._decode(self._ids[self._settled :])[len(before) :]
        text = self._release(rest) if not self.stopped else ""
        held, self._held = self._held, ""
        return text + ("" if self.stopped else held)

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _release(self, text: str) -> str:
        """Hold back what could be the beginning of a stop text."""
        text = self._held + text
        self._held = ""
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        for length in range(min(len(text), max(map(len, self._stop), default=1) - 1), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                self._held = text[-length:]
                return text[:-length]
        return text
