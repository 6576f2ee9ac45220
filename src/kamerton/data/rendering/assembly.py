"""Rows of ids assembled from prompts and answers, with the answers' places known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kamerton.core.errors import RenderingError
from kamerton.core.protocols import Chat
from kamerton.data.rendering.facts import RenderFacts
from kamerton.data.rendering.turns import ChatWriter, Tools, Turn
from kamerton.data.rendering.windows import cut_text

__all__ = ["Assembler", "Assembly", "TrainOn"]

TrainOn = Literal["assistant", "last", "all"]


@dataclass(frozen=True, slots=True)
class Assembly:
    """A row of ids.

    Attributes:
        ids: Token ids.
        trained: Runs of trained positions, as pairs of first and end.
    """

    ids: list[int]
    trained: list[tuple[int, int]]


@dataclass(frozen=True)
class Assembler:
    """Turns chats into ids.

    Attributes:
        writer: Writes chats through the template.
        facts: Facts of the template: who brings BOS and what ends an answer.
        vocab_size: Rows of the embedding; ids beyond it are refused. None: not known.
    """

    writer: ChatWriter
    facts: RenderFacts
    vocab_size: int | None

    def text(self, text: str, max_tokens: int) -> list[Assembly]:
        """Assemble plain text: BOS, text, EOS, all of it trained.

        Args:
            text: Control tokens in it are text.
            max_tokens: Most tokens of a row.

        Returns:
            The row; for a longer text a row for each window, the last of which ends with EOS.
        """
        encoder = self.writer.encoder
        end = self.facts.eos_id if self.facts.eos_id is not None else encoder.control[self._end]
        limit = max(1, max_tokens - len(self._bos()) - 1)
        windows = cut_text(text, lambda piece: len(encoder.encode(encoder.protect(piece))), limit)
        rows = [[*self._bos(), *encoder.encode(encoder.protect(window))] for window in windows]
        rows[-1].append(end)
        return [Assembly(self._checked(ids), [(1, len(ids))]) for ids in rows]

    def chat(self, messages: Chat, tools: Tools, train_on: TrainOn) -> Iterator[Assembly]:
        """Assemble the rows of a chat.

        Args:
            messages: With at least one answer that is to be trained; `weight` 0 leaves one out.
            tools: Schemas.
            train_on: Every answer, the last one, or all text up to the last one but the answers
                that are left out.

        Yields:
            The row of the last answer with all earlier ones that stand in it as they would be
            generated, then in the same way of the last answer that is still missing.

        Raises:
            RenderingError: If there is nothing to train, or a template refuses or deletes text.
        """
        chat = self.writer.normalise(messages)
        wanted = [i for i in _answers(chat) if chat[i].get("weight") != 0]
        if not wanted:
            raise RenderingError(
                "a chat must have an answer to train after its first message, found none"
            )
        if train_on != "assistant":
            wanted = wanted[-1:]
        turns = self._turns(chat, tools, wanted)
        while wanted:
            until = [turn for turn in turns if turn.index <= wanted[-1]]
            ids, places = self._prompt(until[-1].prompt, until[:-1])
            answer = self._answer(until[-1])
            places[wanted[-1]] = (len(ids), len(ids) + len(answer))
            ids = self._checked(ids + answer)
            trained = [places[index] for index in wanted if index in places]
            if train_on == "all":
                left_out = [place for i, place in places.items() if chat[i].get("weight") == 0]
                trained = _all_but(left_out, len(ids))
            yield Assembly(ids, trained)
            wanted = [index for index in wanted if index not in places]

    def prompt(self, messages: Chat, tools: Tools) -> list[int]:
        """Assemble what the model sees before it answers.

        Args:
            messages: Up to the answer.
            tools: Schemas.

        Returns:
            Ids; earlier answers in it have the ids that training gives them.
        """
        chat = self.writer.normalise(messages)
        prompt = self.writer.prompt(chat, tools)
        return self._checked(self._prompt(prompt, self._turns(chat, tools, ()))[0])

    def answers(
        self, messages: Chat, texts: Sequence[str], tools: Tools, *, as_written: bool = False
    ) -> list[list[int]]:
        """Assemble several answers to one prompt, which is written only once.

        Args:
            messages: Up to the answer.
            texts: The answers.
            tools: Schemas.
            as_written: Take answers that the template would refuse as they are.

        Returns:
            Of each answer the ids up to the one that ends it.
        """
        found: list[list[int]] = []
        known: tuple[list[dict[str, Any]], str] | None = None
        for text in texts:
            chat = self.writer.normalise([*messages, {"role": "assistant", "content": text}])
            if known is None or known[0] != chat[:-1]:
                known = chat[:-1], self.writer.prompt(chat[:-1], tools)
            try:
                turn = self.writer.turn(chat, tools, prompt=known[1])
            except RenderingError:
                if not as_written:
                    raise
                turn = Turn(len(chat) - 1, known[1], str(chat[-1]["content"]), closed=False)
            found.append(self._checked(self._answer(turn)))
        return found

    @property
    def _end(self) -> str:
        return self.writer.traits.stops[0]

    def _bos(self) -> list[int]:
        return [] if self.facts.bos_id is None else [self.facts.bos_id]

    def _turns(
        self, chat: Sequence[Mapping[str, Any]], tools: Tools, wanted: Sequence[int]
    ) -> list[Turn]:
        """Split a chat at its answers; those that are only context may be of any form."""
        turns = []
        for index in _answers(chat):
            try:
                turns.append(self.writer.turn(chat[: index + 1], tools))
            except RenderingError:
                if index in wanted:
                    raise
        return turns

    def _prompt(
        self, prompt: str, turns: Sequence[Turn]
    ) -> tuple[list[int], dict[int, tuple[int, int]]]:
        """Tokenise a prompt, earlier answers apart, and say where those stand in the ids."""
        encoder = self.writer.encoder
        ids = self._bos()
        places: dict[int, tuple[int, int]] = {}
        at = 0
        if self.facts.bos == "template":
            # The template has written BOS as text, some even twice.
            bos = str(self.writer.tokenizer.bos_token)
            while prompt.startswith(bos, at):
                at += len(bos)
        for turn in turns:
            if len(turn.prompt) < at or not prompt.startswith(turn.text):
                continue
            ids += encoder.encode(prompt[at : len(turn.prompt)], after=prompt[:at])
            answer = self._answer(turn)
            places[turn.index] = (len(ids), len(ids) + len(answer))
            ids += answer
            at = len(turn.text)
        return ids + encoder.encode(prompt[at:], after=prompt[:at]), places

    def _answer(self, turn: Turn) -> list[int]:
        ids = self.writer.encoder.encode(turn.answer, after=turn.prompt)
        if not turn.closed:
            ids.append(self.writer.encoder.control[self._end])
        return ids

    def _checked(self, ids: list[int]) -> list[int]:
        if self.vocab_size is not None and max(ids) >= self.vocab_size:
            raise RenderingError(
                f"token ids must be below {self.vocab_size}, the rows of the embedding, "
                f"found {max(ids)}",
                hint="the tokenizer belongs to another base, or has tokens that the base lacks",
            )
        return ids


def _answers(chat: Sequence[Mapping[str, Any]]) -> list[int]:
    """Find the answers; one that opens the chat has no prompt and is none."""
    return [i for i, message in enumerate(chat) if message["role"] == "assistant" and i > 0]


def _all_but(left_out: Sequence[tuple[int, int]], stop: int) -> list[tuple[int, int]]:
    """List the spans of a row that are left when some are taken out; nothing predicts the first."""
    spans, start = [], 1
    for first, end in sorted(left_out):
        spans.append((start, first))
        start = end
    return [(a, b) for a, b in [*spans, (start, stop)] if a < b]
