"""Fakes that satisfy the protocols, for tests of what stands on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kamerton.core.protocols import Chat, Generation, Score, TokenEvent, ToolSchemas

__all__ = ["FakeEngine"]


@dataclass(frozen=True)
class FakeEngine:
    """An engine that answers by a function, a word per token.

    Attributes:
        answer: What to answer to a chat.
    """

    answer: Callable[[Chat], str]

    def stream(
        self, chats: Sequence[Chat], generation: Generation, tools: Sequence[ToolSchemas] = ()
    ) -> Iterator[TokenEvent]:
        """Answer chat after chat, at most `max_tokens` words each, up to a stop text."""
        for index, chat in enumerate(chats):
            text = self.answer(chat)
            for stop in generation.stop:
                text = text.partition(stop)[0]
            words = text.split(" ")
            for number, word in enumerate(words[: generation.max_tokens]):
                last = number + 1 in (len(words), generation.max_tokens)
                reason = "stop" if number + 1 == len(words) else "length"
                yield TokenEvent(index, (" " if number else "") + word, reason if last else None)

    def score(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[list[Score]]:
        """Score 0 what it would answer and -10 anything else."""
        return [
            [Score(0.0 if text == self.answer(chat) else -10.0, len(text.split())) for text in row]
            for chat, row in zip(chats, answers, strict=True)
        ]
