"""Text to ids, piece by piece, so that a row has the same token boundaries as generation.

A prompt and its answer are tokenised apart: the model that generates sees the prompt's ids and
adds its own. What must not differ from whole text is the space that SentencePiece-like tokenizers
put before a text: a piece in the middle must not get one.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

from kamerton.data.rendering.templates import Tokenizer

__all__ = ["Decoder", "Encoder", "Span", "spans", "unwrapped"]

_OPEN, _CLOSE = "\ue0c0", "\ue0c1"
_WRAP_OPEN, _WRAP_CLOSE = "\ue0c2", "\ue0c3"
_WRAPPED = re.compile(f"{_WRAP_OPEN}([^{_WRAP_CLOSE}]*){_WRAP_CLOSE}")
# Reasoning tags are written by people and models alike, special token or not.
_WRITTEN_BY_HAND = re.compile(r"[<\[]/?think", re.IGNORECASE)
_TAIL_CHARACTERS = 40
_SHORT_CHARACTERS = 200
_REMEMBERED = 4096
_CHARACTER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text in a row.

    Attributes:
        text: Text that the ids decode to, control tokens included.
        trained: Whether the loss is about it.
    """

    text: str
    trained: bool


class Encoder:
    """Tokenises pieces of rendered text.

    Control tokens in messages are text, not control: `protect` hides them from the template and
    `encode` spells them out, so that nobody can end a turn from inside a message.

    Args:
        tokenizer: A Transformers tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._remembered = lru_cache(_REMEMBERED)(self._tokenise)
        self.control = _control_tokens(tokenizer)
        self.control_by_id = {index: text for text, index in self.control.items()}
        hidden = [text for text in self.control if not _WRITTEN_BY_HAND.match(text)]
        self._hidden = sorted(hidden, key=lambda text: (-len(text), text))
        self._in_message = re.compile("|".join(map(re.escape, self._hidden)) or r"(?!)")
        self._placeholder = re.compile(f"{_OPEN}(\\d+){_CLOSE}")

    def protect(self, text: str) -> str:
        """Hide control tokens that stand in a message.

        Args:
            text: What somebody wrote.

        Returns:
            The text with placeholders, the same text when there is nothing to hide.
        """
        return self._in_message.sub(
            lambda found: f"{_OPEN}{self._hidden.index(found.group())}{_CLOSE}", text
        )

    def encode(self, text: str, after: str = "") -> list[int]:
        """Tokenise a piece.

        Args:
            text: The piece, with placeholders.
            after: The text before it; empty at the very beginning.

        Returns:
            Ids, without a BOS or EOS that the text does not spell.
        """
        ids: list[int] = []
        at = 0
        for found in self._placeholder.finditer(text):
            if int(found.group(1)) >= len(self._hidden):
                continue
            ids += self._encode(text[at : found.start()], after + text[:at])
            hidden = self._hidden[int(found.group(1))]
            ids += self._encode(hidden, "\n" if after or found.start() else "", literal=True)
            at = found.end()
        return ids + self._encode(text[at:], after + text[:at])

    def plain_ids(self, text: str, *, literal: bool = False) -> list[int]:
        """Tokenise a text on its own.

        Args:
            text: Anything.
            literal: Spell control tokens out.

        Returns:
            Ids, without added special tokens.
        """
        # The labels of a classification come again with every question.
        ids = self._tokenise if len(text) > _SHORT_CHARACTERS else self._remembered
        return list(ids(text, literal))

    def _tokenise(self, text: str, literal: bool) -> list[int]:
        options = {"split_special_tokens": True} if literal else {}
        encoded = self._tokenizer(text, add_special_tokens=False, verbose=False, **options)
        return list(encoded["input_ids"])

    def _encode(self, text: str, after: str, *, literal: bool = False) -> list[int]:
        if not text:
            return []
        if after and self._adds_space:
            for anchor in self._anchors(after):
                before = self.plain_ids(anchor, literal=literal)
                together = self.plain_ids(anchor + text, literal=literal)
                if together[: len(before)] == before:
                    return together[len(before) :]
        return self.plain_ids(text, literal=literal)

    @cached_property
    def _adds_space(self) -> bool:
        newline = self.plain_ids("\n")
        return self.plain_ids("\na")[len(newline) :] != self.plain_ids("a")

    def _anchors(self, after: str) -> list[str]:
        """Name short texts that can stand for all text before a piece, best first."""
        tail = after[-_TAIL_CHARACTERS:]
        at = max((tail.rfind(token) for token in self.control), default=-1)
        return [tail[at:] if at >= 0 else tail[-1], "\n"]


class Decoder:
    """Turns ids into text as they come, never cutting a character in half.

    Control tokens are wrapped in private characters, so that they differ from text that spells
    one; tags of reasoning stand as they are.

    Args:
        tokenizer: A Transformers tokenizer.
        encoder: Knows its control tokens.
    """

    def __init__(self, tokenizer: Tokenizer, encoder: Encoder) -> None:
        self._tokenizer = tokenizer
        self._control = encoder.control_by_id
        self._ids: list[int] = []
        self._settled = 0
        self._read = 0

    def add(self, token: int) -> str:
        """Take one more token.

        Args:
            token: Its id.

        Returns:
            The text that is now certain; may be empty.
        """
        control = self._control.get(token)
        if control is not None:
            text = self.finish()
            self._ids.append(token)
            self._read = len(self._ids)
            if _WRITTEN_BY_HAND.match(control):
                return text + control
            return f"{text}{_WRAP_OPEN}{control}{_WRAP_CLOSE}"
        self._ids.append(token)
        # Decoding a few ids of context keeps spaces and joined characters right.
        before = self._decode(self._ids[self._settled : self._read])
        now = self._decode(self._ids[self._settled :])
        if now.endswith("\ufffd") and len(self._ids) - self._read < _CHARACTER_TOKENS:
            return ""
        self._settled, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """End the text, for now.

        Returns:
            What was held back.
        """
        before = self._decode(self._ids[self._settled : self._read])
        rest = self._decode(self._ids[self._settled :])[len(before) :]
        if len(self._ids) > self._read:
            self._settled, self._read = self._read, len(self._ids)
        return rest

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def unwrapped(text: str, kept: Collection[str]) -> str:
    """Take wrapped control tokens out of a text.

    Args:
        text: Text that `Decoder` gives.
        kept: Those that stay, as text.

    Returns:
        The text.
    """
    if _WRAP_OPEN not in text:
        return text
    return _WRAPPED.sub(lambda found: found[1] if found[1] in kept else "", text)


def _control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Find every special token by its text."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    control = {str(token): index for index, token in added.items() if token.special and str(token)}
    for token, index in (
        (tokenizer.bos_token, tokenizer.bos_token_id),
        (tokenizer.eos_token, tokenizer.eos_token_id),
    ):
        # Some tokenizers keep these two as ordinary members of their vocabulary.
        if token and index is not None:
            control[str(token)] = index
    return control


def spans(tokenizer: Tokenizer, ids: Sequence[int], loss_mask: Sequence[bool]) -> list[Span]:
    """Decode a row in runs of trained and other tokens.

    Args:
        tokenizer: A Transformers tokenizer.
        ids: Token ids.
        loss_mask: One flag for each id.

    Returns:
        Runs whose texts together are the row's text.
    """
    found: list[Span] = []
    at, before = 0, ""
    for flag, run in groupby(loss_mask):
        start, at = at, at + len(list(run))
        # A run on its own would lose the space that some decoders strip at the start.
        text = _decode(tokenizer, ids[:at])
        own = text[len(before) :] if text.startswith(before) else _decode(tokenizer, ids[start:at])
        found.append(Span(own, flag))
        before = text
    return found


def _decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **options))
