"""Turning ids into answers as they come, without cutting characters or stop texts in half."""

from collections.abc import Sequence

from kamerton.data.rendering.answers import Written, overlap
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokens import unwrapped

__all__ = ["PlainStream", "TextStream", "read_answer"]


class TextStream:
    """The growing text of one answer, apart from its reasoning.

    Args:
        renderer: Knows what the template writes around an answer.
        stop: Texts that end the answer and are not part of it; reasoning may hold them.
    """

    def __init__(self, renderer: Renderer, stop: tuple[str, ...] = ()) -> None:
        self._decoder = renderer.decoder()
        self._reader = renderer.reader()
        self._stop = stop
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> Written:
        """Take one more token.

        Args:
            token: Its id.

        Returns:
            The text and the reasoning that are now certain; both may be empty.
        """
        return self._release(self._reader.add(self._decoder.add(token)))

    def finish(self, *, ended: bool = True) -> Written:
        """End the answer.

        Args:
            ended: Whether the model ended it itself.

        Returns:
            The text that was held back.
        """
        if self.stopped:
            return Written()
        more = self._release(self._reader.add(self._decoder.finish()))
        last = self._release(self._reader.finish(ended=ended))
        held, self._held = self._held, ""
        text = more.text + last.text + ("" if self.stopped else held)
        return Written(text, more.reasoning + last.reasoning)

    def _release(self, written: Written) -> Written:
        """Hold back what could be the beginning of a stop text."""
        if not self._stop or self.stopped:
            return written if not self.stopped else Written("", written.reasoning)
        text, self._held = self._held + written.text, ""
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return Written(text[: min(found)], written.reasoning)
        if held := max(overlap(text, stop) for stop in self._stop):
            text, self._held = text[:-held], text[-held:]
        return Written(text, written.reasoning)


def read_answer(renderer: Renderer, ids: Sequence[int]) -> str:
    """Turn the ids of a whole answer into its text.

    Args:
        renderer: Knows what the template writes around an answer.
        ids: Its tokens; those that end it are left out.

    Returns:
        The text without reasoning.
    """
    stream = TextStream(renderer)
    pieces = [stream.add(token).text for token in ids if token not in renderer.stop_ids]
    return "".join([*pieces, stream.finish().text])


class PlainStream:
    """The text of a continuation, as it is; stop texts end it.

    Args:
        renderer: Has the tokenizer.
        stop: Texts that end it and are not part of it.
    """

    def __init__(self, renderer: Renderer, stop: tuple[str, ...]) -> None:
        self._decoder = renderer.decoder()
        self._stop, self._held = stop, ""
        self.stopped = False

    def add(self, token: int) -> Written:
        """Take one more token."""
        return self._release(self._decoder.add(token), last=False)

    def finish(self, *, ended: bool = True) -> Written:
        """Give what was held back; how it ended makes no difference."""
        return self._release(self._decoder.finish(), last=True)

    def _release(self, text: str, *, last: bool) -> Written:
        text = self._held + unwrapped(text, ())
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return Written(text[: min(found)])
        held = 0 if last else max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return Written(text[: len(text) - held])
