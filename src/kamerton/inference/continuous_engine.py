"""The engine that serves: requests join and leave between steps, variants mix in one row.

A step is: schedule (plain data), compute, choose tokens, emit. Shapes: V vocabulary, n requests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kamerton.core.errors import KamertonError, ModelError
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.data.rendering.answers import Written, overlap
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokens import Decoder, unwrapped
from kamerton.inference.beginnings import Beginnings
from kamerton.inference.detokenise import TextStream
from kamerton.inference.request_state import RequestState
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.inference.scheduler import Chunk, Scheduler
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.prompting.prompt import Prompt

__all__ = ["ContinuousEngine", "LoadedVariant"]


@dataclass(frozen=True, eq=False)
class LoadedVariant:
    """A variant that requests can name.

    Attributes:
        model: What clients are told of it.
        renderer: Turns its chats into tokens.
        prompt: System text and demonstrations put before every chat.
        adapter: Which adapter of the base's set its tokens go through; -1 for the base alone.
    """

    model: ServedModel
    renderer: Renderer
    prompt: Prompt
    adapter: int = -1


@dataclass(eq=False)
class _Answer:
    """What the engine keeps of a request besides its state."""

    state: RequestState
    variant: LoadedVariant
    random: torch.Generator
    text: "TextStream | _PlainStream"


class ContinuousEngine:
    """Answers requests to several variants of one base together.

    Args:
        base: The base; packed rows must work on it.
        variants: What can be asked for.
        num_slots: Most answers that are computed at once; more wait.
        tokens_per_step: Most tokens in a step: a longer prompt is read in chunks.
        cache_mib: Memory for keys and values of what is computed at once; requests wait where it
            would not be enough.
        beginnings_mib: Memory for beginnings of prompts that later ones may share; 0 keeps none.
    """

    def __init__(
        self,
        base: Base,
        variants: Iterable[LoadedVariant],
        *,
        num_slots: int = 16,
        tokens_per_step: int = 512,
        cache_mib: int = 2048,
        beginnings_mib: int = 256,
    ) -> None:
        if not base.ragged:
            raise ModelError(
                f"{base.identity.id} cannot compute packed rows, which serving needs",
                hint="kamerton chat and kamerton evaluate work on it",
            )
        self._base = base
        self._variants = {variant.model.name: variant for variant in variants}
        self._cache = base.new_cache(num_slots)
        self._scheduler = Scheduler(num_slots, tokens_per_step)
        self._cache_bytes = cache_mib << 20
        # Until a token is computed nobody knows what one takes.
        self._scheduler.limit_tokens = 0
        self._beginnings = Beginnings(beginnings_mib << 20)
        self._answers: dict[str, _Answer] = {}

    @property
    def models(self) -> list[ServedModel]:
        """What can be asked for."""
        return [variant.model for variant in self._variants.values()]

    @property
    def is_idle(self) -> bool:
        """Whether no request is left."""
        return self._scheduler.is_idle

    def add(self, request: AnswerRequest) -> list[AnswerUpdate]:
        """Take a request in.

        Args:
            request: The request; it keeps the variant that its name means now.

        Returns:
            An error where it cannot be answered, else nothing.
        """
        variant = self._variants.get(request.model)
        if variant is None:
            return [_refusal(request, f"the model '{request.model}' is not served")]
        try:
            ids = self._prompt_ids(request, variant)
            room = self._room(len(ids))
        except KamertonError as error:
            return [_refusal(request, error.message)]
        except Exception as error:
            # Templates are programs: what a stranger's message makes of one stops nobody else.
            return [_refusal(request, f"the chat cannot be turned into tokens: {error}")]
        longest = request.generation.max_tokens
        longest = longest if room is None else min(longest, room)
        before = self._base.num_virtual_of(variant.adapter)
        state = RequestState(request, ids, len(ids), len(ids) + longest, before)
        stop = request.generation.stop
        text = (
            _PlainStream(variant.renderer, stop)
            if request.chat is None
            else TextStream(variant.renderer, stop)
        )
        random = random_stream(request.generation, 0)
        self._answers[request.id] = _Answer(state, variant, random, text)
        self._scheduler.add(state)
        return []

    def cancel(self, request_id: str) -> None:
        """Stop answering a request.

        Args:
            request_id: Of a request; unknown ones do no harm.
        """
        self._remove({request_id})

    def fail(self, message: str) -> list[AnswerUpdate]:
        """Give up all requests after a step that went wrong.

        Args:
            message: Why.

        Returns:
            An error for each.
        """
        updates = [AnswerUpdate(name, error=message) for name in self._answers]
        self._remove({update.id for update in updates})
        return updates

    @torch.no_grad()
    def step(self) -> list[AnswerUpdate]:
        """Compute one step of everything that runs.

        Returns:
            Updates of the requests that have a new token.
        """
        for state in self._admit():
            source = self._base.prefix_of(self._answers[state.request.id].variant.adapter)
            if source is not None:
                self._cache.seed(source.compute(), self._base.dtype, [state.slot])
            # The last token of a prompt is always computed: the answer begins with what it gives.
            beginning = self._place(state, state.ids[:-1])
            state.num_computed = state.num_reused = self._beginnings.load(*beginning)
        chunks = self._scheduler.schedule()
        updates: list[AnswerUpdate] = []
        for answers, logits in self._compute(chunks) if chunks else ():
            updates += self._emit(answers, logits)
        for update in updates:
            state = self._answers[update.id].state
            if update.is_last or state.num_written == 1:
                # Others may begin with this prompt, or go on with this chat.
                self._beginnings.keep(*self._place(state, state.ids[: state.num_computed]))
        self._remove({update.id for update in updates if update.is_last})
        return updates

    def _admit(self) -> list[RequestState]:
        """Give slots to those who wait, as far as there is memory."""
        if not self._cache.limit_tokens and (size := self._cache.bytes_per_token):
            limit = max(1, self._cache_bytes // size)
            self._scheduler.limit_tokens = self._cache.limit_tokens = limit
        running = [state.past for state in self._scheduler.running]
        admitted = self._scheduler.admit()
        if admitted and self._cache.limit_tokens:
            self._cache.trim(running, len(running) + len(admitted))
        return admitted

    def _place(
        self, state: RequestState, ids: list[int]
    ) -> tuple[int, list[int], KVCache, int, int]:
        """Say which adapter reads tokens, and where their keys and values stand."""
        adapter = self._answers[state.request.id].variant.adapter
        return adapter, ids, self._cache, state.slot, state.num_before

    def _compute(self, chunks: Sequence[Chunk]) -> list[tuple[list[_Answer], Tensor]]:
        """Compute a row.

        Args:
            chunks: At least one.

        Returns:
            The answers that get a token now, with their [n, V] logits, by the head that they have.
        """
        ids: list[int] = []
        segments: list[Segment] = []
        for chunk in chunks:
            state, start = chunk.state, len(ids)
            ids += chunk.ids
            adapter = self._answers[state.request.id].variant.adapter
            segments.append(
                Segment(start, len(ids), slot=state.slot, past=state.past, adapter=adapter)
            )
        layout = Layout(tuple(segments), self._cache)
        hidden = self._base.hidden(torch.tensor(ids, device=self._base.device), layout)
        for chunk in chunks:
            chunk.state.num_computed += chunk.num_tokens
        whole = [
            (s, c.state) for s, c in zip(segments, chunks, strict=True) if not c.state.num_left
        ]
        answers = [self._answers[state.request.id] for _, state in whole]
        groups = []
        for head, rows in self._base.heads_of([segment.adapter for segment, _ in whole]):
            ends = [whole[row][0].stop - 1 for row in rows]
            logits = head.logits(hidden[torch.tensor(ends, device=hidden.device)])
            groups.append(([answers[row] for row in rows], logits))
        return groups

    def _emit(self, answers: Sequence[_Answer], logits: Tensor) -> list[AnswerUpdate]:
        tokens = self._choose(answers, logits)
        logprobs = self._logprobs(answers, logits, tokens)
        return [
            self._advance(answer, token, found)
            for answer, token, found in zip(answers, tokens, logprobs, strict=True)
        ]

    def _choose(self, answers: Sequence[_Answer], logits: Tensor) -> list[int]:
        """Choose the next tokens, those with the same settings at once."""
        alike: dict[tuple[float, float, int], list[int]] = {}
        for row, answer in enumerate(answers):
            how = answer.state.request.generation
            alike.setdefault((how.temperature, how.top_p, how.top_k), []).append(row)
        tokens = [0] * len(answers)
        for rows in alike.values():
            how = answers[rows[0]].state.request.generation
            chosen = choose_tokens(logits[rows], how, [answers[row].random for row in rows])
            for row, token in zip(rows, chosen.tolist(), strict=True):
                tokens[row] = token
        return tokens

    def _logprobs(
        self, answers: Sequence[_Answer], logits: Tensor, tokens: Sequence[int]
    ) -> list[tuple[TokenLogprob, ...]]:
        """Log-probabilities at temperature 1, for those who asked for them."""
        found: list[tuple[TokenLogprob, ...]] = []
        for answer, row, token in zip(answers, logits, tokens, strict=True):
            num_top = answer.state.request.num_top_logprobs
            if num_top is None:
                found.append(())
                continue
            logprobs = row.log_softmax(-1)
            best = logprobs.topk(num_top)
            tokenizer = answer.variant.renderer.tokenizer
            top = [
                (tokenizer.decode([index]), value)
                for index, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            text = tokenizer.decode([token])
            found.append((TokenLogprob(text, float(logprobs[token]), tuple(top)),))
        return found

    def _advance(
        self, answer: _Answer, token: int, logprobs: tuple[TokenLogprob, ...]
    ) -> AnswerUpdate:
        """Add a token to an answer."""
        state = answer.state
        state.ids.append(token)
        update = AnswerUpdate(
            state.request.id,
            num_prompt_tokens=state.num_prompt,
            num_tokens=state.num_written,
            logprobs=logprobs,
        )
        if token in answer.variant.renderer.stop_ids:
            return _with(update, answer.text.finish(), "stop")
        written = answer.text.add(token)
        if answer.text.stopped:
            return _with(update, written, "stop")
        if len(state.ids) >= state.num_most:
            last = answer.text.finish(ended=False)
            whole = Written(written.text + last.text, written.reasoning + last.reasoning)
            return _with(update, whole, "length")
        return _with(update, written)

    def _remove(self, ids: set[str]) -> None:
        for move in self._scheduler.remove(ids):
            self._cache.copy_slot(move.source, [move.target], move.num_tokens)
        for name in ids:
            self._answers.pop(name, None)

    def _prompt_ids(self, request: AnswerRequest, variant: LoadedVariant) -> list[int]:
        if request.chat is not None:
            chat = variant.prompt.apply(request.chat)
            return list(variant.renderer.prompt_ids(chat, request.tools))
        if isinstance(request.prompt, str):
            return list(variant.renderer.tokenizer(request.prompt)["input_ids"])
        size = self._base.identity.vocab_size
        if strange := [index for index in request.prompt if not 0 <= index < size]:
            raise ModelError(f"prompt: token ids are from 0 to {size - 1}, got {strange[0]}")
        return list(request.prompt)

    def _room(self, num_prompt: int) -> int | None:
        """Tokens that may be written after a prompt; None where the base knows no bound."""
        room = room_of(self._base)
        if room is None:
            return None
        if num_prompt >= room:
            raise ModelError(
                f"this model's maximum context length is {room} tokens and the prompt has "
                f"{num_prompt}"
            )
        return room - num_prompt


class _PlainStream:
    """The text of a continuation, as it is; stop texts end it.

    Args:
        renderer: Has the tokenizer.
        stop: Texts that end it and are not part of it.
    """

    def __init__(self, renderer: Renderer, stop: tuple[str, ...]) -> None:
        self._decoder: Decoder = renderer.decoder()
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


def _refusal(request: AnswerRequest, message: str) -> AnswerUpdate:
    return AnswerUpdate(request.id, error=message, is_client_error=True)


def _with(update: AnswerUpdate, written: Written, finish_reason: str | None = None) -> AnswerUpdate:
    return replace(
        update, text=written.text, reasoning=written.reasoning, finish_reason=finish_reason
    )
