"""The embedded engine: answers many chats together over one base, with a cache of slots.

Chats go in waves of at most `max_batch`. The common beginning of a wave's prompts (system text,
demonstrations) is computed once and copied into every slot.

An answer does not depend on who else is in its wave: exactly in float32, up to rounding in
bfloat16, where matrices of another height add up in another order and a near tie may tip.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Chat, Generation, Sample, Score, TokenEvent, ToolSchemas
from kamerton.core.sequences import shared_prefix
from kamerton.data.rendering.answers import Written
from kamerton.data.rendering.renderer import Renderer
from kamerton.inference.answer_rows import PromptWithAnswers, answer_logprobs, read_answers
from kamerton.inference.detokenise import TextStream
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.prompting.prompt import Prompt

__all__ = ["EmbeddedEngine", "tools_each"]

_SHARED_MINIMUM = 8


def tools_each(chats: Sequence[Chat], tools: Sequence[ToolSchemas]) -> Sequence[ToolSchemas]:
    """Give the functions that each chat may call.

    Args:
        chats: The chats.
        tools: The tools of each chat, or empty.

    Returns:
        One per chat.
    """
    return tools or [()] * len(chats)


@dataclass(eq=False)
class _Answer:
    """One answer being generated."""

    index: int
    prompt: list[int]
    random: torch.Generator
    text: TextStream
    slot: int = 0
    length: int = 0
    longest: int = 0
    """Most tokens it may have, by what was asked for and by the base's context."""
    token: int = -1
    ids: list[int] = field(default_factory=list)
    """The written ids, with the token that ended them."""
    logprobs: list[float] | None = None
    """Those of `ids`; None where nobody asks for them, which saves a softmax per token."""


class EmbeddedEngine:
    """Generates and scores with a base, a prompt and whatever adapter is attached.

    Args:
        base: The base.
        renderer: Turns messages into ids.
        prompt: System text and demonstrations put before every chat.
        max_batch: Answers generated at once.
        tokens_per_row: Tokens computed at once while reading prompts and scoring.
    """

    def __init__(
        self,
        base: Base,
        renderer: Renderer,
        prompt: Prompt | None = None,
        *,
        max_batch: int = 64,
        tokens_per_row: int = TOKENS_PER_ROW,
    ) -> None:
        self._base = base
        self._renderer = renderer
        self._prompt = prompt or Prompt()
        self._max_batch = max_batch
        self._tokens_per_row = tokens_per_row

    def stream(
        self, chats: Sequence[Chat], generation: Generation, tools: Sequence[ToolSchemas] = ()
    ) -> Iterator[TokenEvent]:
        """Answer chats together.

        Args:
            chats: Each ends with the turn to be answered.
            generation: The settings of answers.
            tools: The functions that each chat may call; empty when none may call any.

        Yields:
            One event per token and chat, the last of a chat with its finish reason.

        Raises:
            ModelError: If a prompt leaves no room for an answer in the base's context.
        """
        answers = [
            _Answer(
                index,
                self._renderer.prompt_ids(self._prompt.apply(chat), own),
                random_stream(generation, index),
                TextStream(self._renderer, generation.stop),
            )
            for index, (chat, own) in enumerate(zip(chats, tools_each(chats, tools), strict=True))
        ]
        yield from self._waves(answers, generation)

    def sample(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Sample]:
        """Answer prompts together, with the probability of every token written.

        The place of a prompt and the seed decide its answer: a repeated prompt has several.
        Dropout of the adapter must be off.

        Args:
            prompts: Token ids, at least one each; the engine's own prompt is not put before them.
            generation: The settings of answers, without stop texts: they would stand in ids, not in
                text.

        Returns:
            The answers in the order of the prompts.

        Raises:
            ModelError: If a prompt leaves no room for an answer in the base's context.
        """
        assert not generation.stop, "samples end with a token, not with a text"
        assert all(prompts), "without any token there is nothing to go on from"
        answers = [
            _Answer(
                index,
                list(prompt),
                random_stream(generation, index),
                TextStream(self._renderer),
                logprobs=[],
            )
            for index, prompt in enumerate(prompts)
        ]
        texts, reasonings = [""] * len(answers), [""] * len(answers)
        for event in self._waves(answers, generation):
            texts[event.index] += event.text
            reasonings[event.index] += event.reasoning
        return [
            Sample(
                tuple(answer.ids),
                tuple(answer.logprobs or ()),
                text,
                ended=answer.token in self._renderer.stop_ids,
                reasoning=reasoning,
            )
            for answer, text, reasoning in zip(answers, texts, reasonings, strict=True)
        ]

    def score(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[list[Score]]:
        """Score candidate answers; what chats begin with is computed once for all of them.

        Args:
            chats: Each ends with the turn to be answered.
            answers: Candidates of each chat.
            tools: The functions that each chat may call; empty when none may call any.

        Returns:
            The summed log-probability of each chat's and candidate's answer and its end.
        """
        asked = [
            self._with_answers(chat, candidates, own)
            for chat, candidates, own in zip(chats, answers, tools_each(chats, tools), strict=True)
        ]
        read = partial(answer_logprobs, self._base)
        found = read_answers(
            asked, self._tokens_per_row, self._base.device, read, last_tokens=False
        )
        return [
            [Score(logprob, len(ids)) for logprob, ids in zip(sums.tolist(), own, strict=True)]
            for sums, (_, own) in zip(found, asked, strict=True)
        ]

    def _waves(self, answers: list[_Answer], generation: Generation) -> Iterator[TokenEvent]:
        room = room_of(self._base)
        for answer in answers:
            _ensure_room(len(answer.prompt), room)
            left = generation.max_tokens if room is None else room - len(answer.prompt)
            answer.longest = min(generation.max_tokens, left)
        # Prompts of similar length read and finish together.
        ordered = sorted(answers, key=lambda answer: len(answer.prompt))
        for first in range(0, len(ordered), self._max_batch):
            yield from self._wave(ordered[first : first + self._max_batch], generation)

    def _wave(self, answers: list[_Answer], generation: Generation) -> Iterator[TokenEvent]:
        cache = self._base.new_cache(len(answers))
        logits = self._read(answers, cache)
        active = answers
        while True:
            going = []
            self._choose(active, logits, generation)
            for answer in active:
                event = self._advance(answer)
                yield event
                if event.finish_reason is None:
                    going.append(answer)
            if not going:
                return
            if len(going) <= cache.num_slots // 2:
                cache.keep([answer.slot for answer in going])
                for slot, answer in enumerate(going):
                    answer.slot = slot
            active = going
            logits = self._decode(active, cache)

    def _choose(self, answers: list[_Answer], logits: Tensor, generation: Generation) -> None:
        """Choose the next token of every answer by its [n, V] logits, all at once."""
        tokens = choose_tokens(logits, generation, [answer.random for answer in answers])
        for answer, token in zip(answers, tokens.tolist(), strict=True):
            answer.token = token
            answer.ids.append(token)
        if answers[0].logprobs is None:
            return
        # The distribution is the whole one, without the temperature and cuts of the choice.
        chosen = logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)
        for answer, logprob in zip(answers, chosen.tolist(), strict=True):
            assert answer.logprobs is not None, "all answers of a wave are asked for alike"
            answer.logprobs.append(logprob)

    def _advance(self, answer: _Answer) -> TokenEvent:
        """Say what the newest token adds to an answer."""
        if answer.token in self._renderer.stop_ids:
            return _event(answer, answer.text.finish(), "stop")
        written = answer.text.add(answer.token)
        if answer.text.stopped:
            return _event(answer, written, "stop")
        if len(answer.ids) >= answer.longest:
            last = answer.text.finish(ended=False)
            whole = Written(written.text + last.text, written.reasoning + last.reasoning)
            return _event(answer, whole, "length")
        return _event(answer, written)

    @torch.no_grad()
    def _read(self, answers: list[_Answer], cache: KVCache) -> Tensor:
        """Read the prompts into their slots; returns [n, V] logits of their last tokens."""
        past = self._base.num_virtual
        for slot, answer in enumerate(answers):
            answer.slot, answer.length = slot, past + len(answer.prompt)
        if not self._base.ragged:
            return self._recompute(answers)
        # The last token of a prompt is read by its own answer: its logits are needed.
        first, *others = (answer.prompt[:-1] for answer in answers)
        shared = min((shared_prefix(first, other) for other in others), default=0)
        if shared < _SHARED_MINIMUM:
            shared = 0
        else:
            segment = Segment(0, shared, slot=0, past=past)
            self._hidden(answers[0].prompt[:shared], (segment,), cache)
            cache.copy_slot(0, list(range(1, len(answers))), past + shared)
        parts: list[list[_Answer]] = [[]]
        for answer in answers:
            if sum(len(a.prompt) - shared for a in parts[-1]) >= self._tokens_per_row:
                parts.append([])
            parts[-1].append(answer)
        return torch.cat([self._read_part(part, shared, cache) for part in parts])

    def _read_part(self, part: list[_Answer], shared: int, cache: KVCache) -> Tensor:
        ids: list[int] = []
        segments = []
        for answer in part:
            start = len(ids)
            ids += answer.prompt[shared:]
            past = self._base.num_virtual + shared
            segments.append(Segment(start, len(ids), slot=answer.slot, past=past))
        hidden = self._hidden(ids, tuple(segments), cache)
        ends = torch.tensor([segment.stop - 1 for segment in segments], device=hidden.device)
        return self._base.head.logits(hidden[ends])

    @torch.no_grad()
    def _decode(self, answers: list[_Answer], cache: KVCache) -> Tensor:
        """One more token for every answer: [n, V] logits."""
        if not self._base.ragged:
            return self._recompute(answers)
        segments = tuple(
            Segment(row, row + 1, slot=answer.slot, past=answer.length)
            for row, answer in enumerate(answers)
        )
        hidden = self._hidden([answer.token for answer in answers], segments, cache)
        for answer in answers:
            answer.length += 1
        return self._base.head.logits(hidden)

    def _recompute(self, answers: list[_Answer]) -> Tensor:
        """Logits without a cache, for models that cannot use slots: slow but right."""
        rows = [answer.prompt + answer.ids for answer in answers]
        layout = Layout.of_lengths([len(row) for row in rows])
        ids = torch.tensor([i for row in rows for i in row], device=self._base.device)
        hidden = self._base.hidden(ids, layout)
        ends = torch.tensor([s.stop - 1 for s in layout.segments], device=hidden.device)
        return self._base.head.logits(hidden[ends])

    def _hidden(self, ids: list[int], segments: tuple[Segment, ...], cache: KVCache) -> Tensor:
        tensor = torch.tensor(ids, device=self._base.device)
        return self._base.hidden(tensor, Layout(segments, cache))

    def _with_answers(
        self, chat: Chat, candidates: Sequence[str], tools: ToolSchemas
    ) -> PromptWithAnswers:
        prompt, answers = self._renderer.answers_ids(self._prompt.apply(chat), candidates, tools)
        longest = max(map(len, answers), default=0)
        _ensure_room(len(prompt) + longest - 1, room_of(self._base))
        return prompt, answers


def _event(answer: _Answer, written: Written, finish_reason: str | None = None) -> TokenEvent:
    return TokenEvent(answer.index, written.text, finish_reason, written.reasoning)


def _ensure_room(num_prompt: int, room: int | None) -> None:
    if room is not None and num_prompt >= room:
        raise ModelError(
            f"a prompt of {num_prompt} tokens leaves no room in the base's context of {room}",
            hint="shorten the system text, the demonstrations or the question",
        )
