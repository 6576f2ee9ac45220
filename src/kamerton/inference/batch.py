"""Answers that are computed together: they join and leave between steps, adapters mix in one row.

A step is: schedule (plain data), compute, choose tokens, emit. Shapes: V vocabulary, n answers.
"""

from collections.abc import Collection, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from kamerton.core.requests import AnswerUpdate
from kamerton.inference.answer import Answer
from kamerton.inference.beginnings import Beginnings
from kamerton.inference.choosing import choose_each, note_each, report_each
from kamerton.inference.following import follow
from kamerton.inference.request_state import RequestState
from kamerton.inference.scheduler import Chunk, Scheduler
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.prefix import Prefix, PrefixSource
from kamerton.models.base import Base

__all__ = ["Batch"]

_EVERYTHING = 1 << 32
"""Tokens of a step where texts cannot be computed piece by piece."""


class Batch:
    """Computes answers over one base.

    Args:
        base: The base. Where packed rows do not work on it, every step computes whole texts.
        num_slots: Most answers that are computed at once; more wait.
        tokens_per_step: Most tokens in a step: a longer prompt is read in chunks.
        cache_bytes: Memory for keys and values of what is computed at once; answers wait where it
            would not be enough. None sets no limit.
        beginnings_bytes: Memory for beginnings of prompts that later ones may share; 0 keeps none.

    Attributes:
        answers: Those that wait or are computed, by their requests' ids.
        scheduler: Says which are computed.
        cache: Their keys and values.
        beginnings: What is kept of earlier prompts.
    """

    def __init__(
        self,
        base: Base,
        num_slots: int,
        tokens_per_step: int,
        *,
        cache_bytes: int | None = None,
        beginnings_bytes: int = 0,
    ) -> None:
        self._base = base
        self._cache_bytes = cache_bytes
        self._prefixes: WeakKeyDictionary[PrefixSource, Prefix] = WeakKeyDictionary()
        self.answers: dict[str, Answer] = {}
        self.scheduler = Scheduler(num_slots, tokens_per_step if base.ragged else _EVERYTHING)
        # Until a token is computed nobody knows what one takes.
        self.scheduler.limit_tokens = None if cache_bytes is None else 0
        self.cache = KVCache(num_slots)
        self.beginnings = Beginnings(beginnings_bytes)

    def add(self, answer: Answer) -> None:
        """Let an answer wait for its turn.

        Args:
            answer: The answer; its request's id is unlike those of the others.
        """
        self.answers[answer.state.request.id] = answer
        self.scheduler.add(answer.state)

    def remove(self, ids: Collection[str]) -> None:
        """Take answers out.

        Args:
            ids: Of their requests; unknown ones do no harm.
        """
        self._catch_up(ids)
        for move in self.scheduler.remove(ids):
            self.cache.copy_slot(move.source, [move.target], move.num_tokens)
        for name in ids:
            self.answers.pop(name, None)

    @torch.no_grad()
    def step(self) -> list[AnswerUpdate]:
        """Compute one step of everything that runs; what has ended is taken out.

        Returns:
            Updates of the answers that have a new token.
        """
        for state in self._admit():
            self._begin(state)
        self._catch_up()
        chunks = self.scheduler.schedule()
        updates: list[AnswerUpdate] = []
        for answers, logits in self._compute(chunks) if chunks else ():
            updates += _emit(answers, logits)
        for update in updates:
            state = self.answers[update.id].state
            if update.is_last or state.num_written == 1:
                # Others may begin with this prompt, or go on with this chat.
                self.beginnings.keep(*self._place(state, state.ids[: state.num_computed]))
        self.remove({update.id for update in updates if update.is_last})
        return updates

    def _admit(self) -> list[RequestState]:
        """Give slots to those who wait, as far as there is memory."""
        cache, most = self.cache, self._cache_bytes
        if most is not None and not cache.limit_tokens and (size := cache.bytes_per_token):
            self.scheduler.limit_tokens = cache.limit_tokens = max(1, most // size)
        running = [state.past for state in self.scheduler.running]
        admitted = self.scheduler.admit()
        if admitted and cache.limit_tokens:
            cache.trim(running, len(running) + len(admitted))
        return admitted

    def _begin(self, state: RequestState) -> None:
        """Put into a slot what is known already of what stands in it."""
        if not self._base.ragged:
            return
        source = self._base.prefix_of(self._adapter(state))
        if source is not None:
            # It is computed once: nothing learns while a batch answers.
            if source not in self._prefixes:
                self._prefixes[source] = source.compute()
            self.cache.seed(self._prefixes[source], self._base.dtype, [state.slot])
        if state.request.reads_prompt:
            return
        # The last token of a prompt is always computed: the answer begins with what it gives.
        beginning = self._place(state, state.ids[:-1])
        state.num_computed = state.num_reused = self.beginnings.load(*beginning)
        adapter, earlier = self._adapter(state), self.scheduler.running[: state.slot]
        follow(state, (other for other in earlier if self._adapter(other) == adapter))

    def _catch_up(self, leaving: Collection[str] = ()) -> None:
        """Copy beginnings that are read by now; of who leaves, what it has read."""
        for state in self.scheduler.running:
            leader = state.leader
            if leader is None or state.request.id in leaving:
                continue
            if leader.num_computed < state.num_shared and leader.request.id not in leaving:
                continue
            known = min(leader.num_computed, state.num_shared)
            if known > state.num_computed:
                num_tokens = state.num_before + known
                self.cache.copy_slot(leader.slot, [state.slot], num_tokens)
                state.num_computed = state.num_reused = known
            state.leader = None

    def _adapter(self, state: RequestState) -> int:
        return self.answers[state.request.id].variant.adapter

    def _place(
        self, state: RequestState, ids: list[int]
    ) -> tuple[int, list[int], KVCache, int, int]:
        """Say which adapter reads tokens, and where their keys and values stand."""
        return self._adapter(state), ids, self.cache, state.slot, state.num_before

    def _compute(self, chunks: Sequence[Chunk]) -> list[tuple[list[Answer], Tensor]]:
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
            adapter = self._adapter(state)
            segments.append(
                Segment(start, len(ids), slot=state.slot, past=state.past, adapter=adapter)
            )
        # Padded rows have no cache: every step computes the texts from their beginning.
        cache = self.cache if self._base.ragged else None
        row = torch.tensor(ids, device=self._base.device)
        hidden = self._base.hidden(row, Layout(tuple(segments), cache))
        whole: list[tuple[int, Answer]] = []
        for segment, chunk in zip(segments, chunks, strict=True):
            answer = self.answers[chunk.state.request.id]
            if chunk.state.request.reads_prompt:
                head = self._base.head_of(segment.adapter)
                answer.read_prompt(hidden[segment.start : segment.stop], head)
            if chunk.is_whole:
                whole.append((segment.stop - 1, answer))
            if cache is not None:
                chunk.state.num_computed += chunk.num_tokens
        groups = []
        for head, rows in self._base.heads_of([answer.variant.adapter for _, answer in whole]):
            ends = torch.tensor([whole[row][0] for row in rows], device=hidden.device)
            groups.append(([whole[row][1] for row in rows], head.logits(hidden[ends])))
        return groups


def _emit(answers: Sequence[Answer], logits: Tensor) -> list[AnswerUpdate]:
    """Choose the next tokens of answers by their [n, V] logits."""
    tokens = choose_each(answers, logits)
    note_each(answers, logits, tokens)
    reported = report_each(answers, logits, tokens)
    chosen = zip(answers, tokens, reported, strict=True)
    return [answer.add(token, logprobs) for answer, token, logprobs in chosen]
