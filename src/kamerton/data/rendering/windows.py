"""Long plain texts are cut into windows that fit a row; nothing of them is lost.

A window ends at the end of a paragraph where that leaves it at least half full, else at the end of
a line, a sentence or a word; only a word that is longer than a window is cut itself.
"""

import re
from collections.abc import Callable, Sequence

__all__ = ["cut_text"]

# From coarse to fine. White space stays with the piece behind it, as tokenizers have it; Chinese
# and Japanese sentences end without any.
_BORDERS = (
    re.compile(r"(?<=\S)(?=[ \t\r]*\n[ \t\r]*\n)"),
    re.compile(r"(?<=[^\n])(?=\n)"),
    re.compile(r"(?<=[.!?…])(?=\s)|(?<=[。！？])"),
    re.compile(r"(?<=\S)(?=\s)"),
)
_WORDS = len(_BORDERS)


def cut_text(text: str, size: Callable[[str], int], limit: int) -> list[str]:
    """Cut a text into windows.

    Args:
        text: Any.
        size: Counts the tokens of a text.
        limit: Most tokens of a window, 1 or more.

    Returns:
        The windows, at least one; together they are the text but for white space at the cuts. A
        single character that is larger than the limit is a window of its own.
    """
    if size(text) <= limit:
        return [text]
    cutter = _Cutter(size, limit)
    cutter.add(text, 0)
    while cutter.pieces:
        cutter.close()
    return cutter.windows or [text]


class _Cutter:
    def __init__(self, size: Callable[[str], int], limit: int) -> None:
        self._size = size
        self._limit = limit
        self._filled = 0  # tokens of the pieces, one by one: together they may be fewer
        self._is_exact = True
        self.pieces: list[str] = []
        self.windows: list[str] = []

    def add(self, piece: str, level: int) -> None:
        """Put a piece into the open window, or its parts where it does not fit."""
        num_tokens = self._size(piece)
        if self._filled + num_tokens > self._limit and not self._is_exact:
            self._filled, self._is_exact = self._size("".join(self.pieces)), True
        if self._filled + num_tokens <= self._limit:
            self.pieces.append(piece)
            self._filled += num_tokens
            self._is_exact = len(self.pieces) == 1
        elif self.pieces and (
            # A word goes whole into the next window, a paragraph where little room is left over.
            2 * self._filled >= self._limit or (level == _WORDS and num_tokens <= self._limit)
        ):
            self.close()
            self.add(piece, level)
        elif level < _WORDS:
            parts = _parts(piece, level)
            for part in parts:
                self.add(part, level + 1)
        elif len(piece) > 1:
            for part in (piece[: len(piece) // 2], piece[len(piece) // 2 :]):
                self.add(part, level)
        else:
            self.pieces.append(piece)
            self._filled += num_tokens

    def close(self) -> None:
        """End the open window; what does not fit once it is tokenised as one text goes on."""
        count = len(self.pieces)
        while count > 1 and self._size("".join(self.pieces[:count])) > self._limit:
            count -= 1
        window = "".join(self.pieces[:count]).rstrip().lstrip("\r\n")
        if window:
            self.windows.append(window)
        self.pieces = self.pieces[count:]
        self._filled, self._is_exact = self._size("".join(self.pieces)), True


def _parts(piece: str, level: int) -> Sequence[str]:
    return [part for part in _BORDERS[level].split(piece) if part]
