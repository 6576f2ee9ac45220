"""The engine that serves: requests join and leave between steps, variants mix in one row.

A step is: schedule (plain data), compute, choose tokens, emit. Shapes: V vocabulary, n requests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from kamerton.core.errors import KamertonError, MissingExtraError, ModelError
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.data.rendering.answers import Written
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tool_calls import CallForm
from kamerton.inference.beginnings import Beginnings
from kamerton.inference.calls import CallReader, call_form_of
from kamerton.inference.detokenise import PlainStream, TextStream
from kamerton.inference.grammar import GrammarCompiler, GrammarState
from kamerton.inference.held_variants import HeldVariants, LoadedVariant, VariantSource
from kamerton.inference.logprobs import prompt_logprobs, token_logprobs
from kamerton.inference.request_state import RequestState
from kamerton.inference.reweighting import Reweighter
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.inference.scheduler import Chunk, Scheduler
from kamerton.inference.tokenizing import prompt_ids, reply_of
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.prefix import Prefix, PrefixSource
from kamerton.models.base import Base
from kamerton.models.context import room_of

__all__ = ["ContinuousEngine", "LoadedVariant"]


_MOST_CHARACTERS = 64
"""Characters of a token that a prompt may have on average; white space has the longest."""


@dataclass(eq=False)
class _Answer:
    """What the engine keeps of a request besides its state."""

    state: RequestState
    variant: LoadedVariant
    random: torch.Generator
    text: TextStream | PlainStream
    rules: tuple[Reweighter | GrammarState, ...] = ()
    calls: CallReader | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    hidden_sum: Tensor | None = None


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
        source: Opens and closes variants while requests are answered; None where none come or go.
        limit_bytes: Most memory of adapters; None sets no limit.

    Attributes:
        variants: What can be asked for.
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
        source: VariantSource | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        if not base.ragged:
            raise ModelError(
                f"{base.identity.id} cannot compute packed rows, which serving needs",
                hint="kamerton chat and kamerton evaluate work on it",
            )
        self._base = base
        self._cache = base.new_cache(num_slots)
        self._scheduler = Scheduler(num_slots, tokens_per_step)
        self._cache_bytes = cache_mib << 20
        # Until a token is computed nobody knows what one takes.
        self._scheduler.limit_tokens = 0
        self._beginnings = Beginnings(beginnings_mib << 20)
        self._answers: dict[str, _Answer] = {}
        self._grammars = GrammarCompiler(base.identity.vocab_size)
        self._call_forms: WeakKeyDictionary[Renderer, CallForm] = WeakKeyDictionary()
        self._prefixes: WeakKeyDictionary[PrefixSource, Prefix] = WeakKeyDictionary()
        self.variants = HeldVariants(
            variants,
            lambda: (answer.variant for answer in self._answers.values()),
            source,
            limit_bytes,
        )

    @property
    def models(self) -> list[ServedModel]:
        """What can be asked for."""
        return self.variants.models

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
        try:
            variant = self.variants.find(request.model, request.artefact)
            self._ensure_short(request)
            ids = prompt_ids(request, variant.renderer, variant.prompt, self._base)
            room = self._room(len(ids), request.generation.max_tokens)
            rules = self._rules(request, ids, variant.renderer)
            calls = self._call_reader(request, variant.renderer)
        except MissingExtraError as error:
            return [_refusal(request, f"{error.message}: {error.hint}")]
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
            PlainStream(variant.renderer, stop)
            if request.chat is None or request.grammar is not None
            else TextStream(variant.renderer, stop)
        )
        random = random_stream(request.generation, 0)
        self._answers[request.id] = _Answer(state, variant, random, text, rules, calls)
        self._scheduler.add(state)
        return []

    def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        """Answer a question about the tokenizer.

        Args:
            question: The question.

        Returns:
            The reply, or why there is none.
        """
        asked = question.asked
        try:
            variant = self.variants.find(asked.model, asked.artefact)
            return reply_of(question, variant.renderer, variant.prompt, self._base)
        except KamertonError as error:
            return TokenizerReply(asked.id, error=error.message)
        except Exception as error:
            # As for answers: a template may fail in any way.
            return TokenizerReply(asked.id, error=f"this cannot be turned into tokens: {error}")

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
            self._seed(state)
            if state.request.reads_prompt:
                continue
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

    def _seed(self, state: RequestState) -> None:
        """Let a slot begin with the prefix of its variant, which is computed once: none learns."""
        source = self._base.prefix_of(self._answers[state.request.id].variant.adapter)
        if source is None:
            return
        if source not in self._prefixes:
            self._prefixes[source] = source.compute()
        self._cache.seed(self._prefixes[source], self._base.dtype, [state.slot])

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
        for segment, chunk in zip(segments, chunks, strict=True):
            if chunk.state.request.reads_prompt:
                self._read_prompt(chunk, hidden[segment.start : segment.stop])
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

    def _read_prompt(self, chunk: Chunk, hidden: Tensor) -> None:
        """Keep what is asked of the prompt: [n, E] hidden states of a chunk of it."""
        state = chunk.state
        answer = self._answers[state.request.id]
        if state.request.embeds and state.num_computed < state.num_prompt:
            more = hidden.float().sum(0)
            answer.hidden_sum = more if answer.hidden_sum is None else answer.hidden_sum + more
        if not state.request.wants_prompt_logprobs:
            return
        tokenizer, num_top = answer.variant.renderer.tokenizer, state.request.num_top_logprobs
        assert num_top is not None, "only asked where log-probabilities are"
        if not state.num_computed:
            first = TokenLogprob(tokenizer.decode([state.ids[0]]), None)
            answer.prompt_logprobs.append(first)
        after = state.num_computed + 1
        tokens = state.ids[after : min(after + chunk.num_tokens, state.num_prompt)]
        head = self._base.head_of(answer.variant.adapter)
        answer.prompt_logprobs += prompt_logprobs(
            head, hidden[: len(tokens)], tokens, num_top, tokenizer
        )

    def _emit(self, answers: Sequence[_Answer], logits: Tensor) -> list[AnswerUpdate]:
        tokens = self._choose(answers, logits)
        logprobs = self._logprobs(answers, logits, tokens)
        updates = []
        for answer, token, found in zip(answers, tokens, logprobs, strict=True):
            if isinstance(token, ModelError):
                update = AnswerUpdate(answer.state.request.id, error=token.message)
            elif not answer.state.num_free:
                update = _only_read(answer)
            else:
                update = self._advance(answer, token, found)
            updates.append(answer.calls.take(update) if answer.calls else update)
        return updates

    def _choose(self, answers: Sequence[_Answer], logits: Tensor) -> list[int | ModelError]:
        """Choose the next tokens, those with the same settings at once."""
        logits = _reweighted(answers, logits)
        alike: dict[tuple[float, float, int, float], list[int]] = {}
        for row, answer in enumerate(answers):
            how, min_p = answer.state.request.generation, answer.state.request.reweighting.min_p
            alike.setdefault((how.temperature, how.top_p, how.top_k, min_p), []).append(row)
        tokens: list[int | ModelError] = [0] * len(answers)
        for (*_, min_p), rows in alike.items():
            how = answers[rows[0]].state.request.generation
            streams = [answers[row].random for row in rows]
            chosen = _chosen(logits[rows], how, streams, min_p)
            for row, token in zip(rows, chosen, strict=True):
                tokens[row] = token
        return tokens

    def _logprobs(
        self, answers: Sequence[_Answer], logits: Tensor, tokens: Sequence[int | ModelError]
    ) -> list[tuple[TokenLogprob, ...]]:
        """Log-probabilities at temperature 1, for those who asked for them."""
        found: list[tuple[TokenLogprob, ...]] = []
        for answer, row, token in zip(answers, logits, tokens, strict=True):
            num_top = answer.state.request.num_top_logprobs
            if num_top is None or isinstance(token, ModelError):
                found.append(())
                continue
            tokenizer = answer.variant.renderer.tokenizer
            found.append(tuple(token_logprobs(row[None], [token], num_top, tokenizer)))
        return found

    def _advance(
        self, answer: _Answer, token: int, logprobs: tuple[TokenLogprob, ...]
    ) -> AnswerUpdate:
        """Add a token to an answer."""
        state = answer.state
        state.ids.append(token)
        for rule in answer.rules:
            rule.add(token)
        update = AnswerUpdate(
            state.request.id,
            num_prompt_tokens=state.num_prompt,
            num_tokens=state.num_written,
            logprobs=logprobs,
        )
        if state.request.echo and state.num_written == 1:
            update = _with_prompt(update, answer)
        if token in answer.variant.renderer.stop_ids:
            return _with(update, answer.text.finish(), "stop")
        written = answer.text.add(token)
        if answer.text.stopped:
            return _with(update, written, "stop")
        for rule in answer.rules:
            if isinstance(rule, GrammarState) and rule.is_over:
                if rule.error:
                    problem = f"the grammar is too complex: {rule.error}"
                    return replace(update, error=problem, is_client_error=True)
                return _with(update, _joined(written, answer.text.finish()), "stop")
        if len(state.ids) >= state.num_most:
            last = answer.text.finish(ended=False)
            return _with(update, _joined(written, last), "length")
        return _with(update, written)

    def _remove(self, ids: set[str]) -> None:
        for move in self._scheduler.remove(ids):
            self._cache.copy_slot(move.source, [move.target], move.num_tokens)
        for name in ids:
            self._answers.pop(name, None)
        if ids:
            self.variants.settle()

    def _call_reader(self, request: AnswerRequest, renderer: Renderer) -> CallReader | None:
        if request.chat is None or not request.tools:
            return None
        if renderer not in self._call_forms:
            self._call_forms[renderer] = call_form_of(renderer)
        names = {str(tool["function"]["name"]) for tool in request.tools}
        return CallReader(self._call_forms[renderer], names, several=request.parallel_calls)

    def _rules(
        self, request: AnswerRequest, ids: Sequence[int], renderer: Renderer
    ) -> tuple[Reweighter | GrammarState, ...]:
        """Begin what changes the logits of an answer."""
        rules: list[Reweighter | GrammarState] = []
        if request.reweighting.changes_logits:
            rules.append(Reweighter(request.reweighting, ids, self._base.identity.vocab_size))
        if request.grammar is not None:
            # The last one: no bias brings back what the grammar forbids.
            rules.append(self._grammars.compile(request.grammar, renderer))
        return tuple(rules)

    def _ensure_short(self, request: AnswerRequest) -> None:
        """Refuse what cannot fit before it is cut into tokens, which nobody else can wait for."""
        room = room_of(self._base)
        size = len(request.prompt) if request.chat is None else len(str(request.chat))
        if room is not None and size > room * _MOST_CHARACTERS:
            raise ModelError(
                f"this model's maximum context length is {room} tokens, and a prompt of {size:,} "
                "characters cannot fit"
            )

    def _room(self, num_prompt: int, max_tokens: int) -> int | None:
        """Tokens that may be written after a prompt; None where the base knows no bound."""
        if not num_prompt:
            raise ModelError("a prompt needs at least one token")
        room = room_of(self._base)
        if room is None:
            return None
        if num_prompt + min(max_tokens, 1) > room:
            raise ModelError(
                f"this model's maximum context length is {room} tokens and the prompt has "
                f"{num_prompt}"
            )
        return room - num_prompt


def _reweighted(answers: Sequence[_Answer], logits: Tensor) -> Tensor:
    """Change the [n, V] logits of the answers that ask for it; others' stay bit for bit."""
    if not any(answer.rules for answer in answers):
        return logits
    rows = list(logits)
    for index, answer in enumerate(answers):
        for rule in answer.rules:
            rows[index] = rule.apply(rows[index])
    return torch.stack(rows)


def _chosen(
    logits: Tensor, how: Generation, streams: Sequence[torch.Generator], min_p: float
) -> list[int | ModelError]:
    """Choose tokens of [n, V] logits; a row without a probability fails alone."""
    try:
        return list(choose_tokens(logits, how, streams, min_p=min_p).tolist())
    except ModelError as error:
        if len(streams) == 1:
            return [error]
    # Nothing has been drawn yet.
    rows = zip(logits, streams, strict=True)
    return [token for row, own in rows for token in _chosen(row[None], how, [own], min_p)]


def _joined(written: Written, last: Written) -> Written:
    return Written(written.text + last.text, written.reasoning + last.reasoning)


def _refusal(request: AnswerRequest, message: str) -> AnswerUpdate:
    return AnswerUpdate(request.id, error=message, is_client_error=True)


def _with(update: AnswerUpdate, written: Written, finish_reason: str | None = None) -> AnswerUpdate:
    return replace(
        update,
        text=update.text + written.text,
        reasoning=written.reasoning,
        finish_reason=finish_reason,
    )


def _with_prompt(update: AnswerUpdate, answer: _Answer) -> AnswerUpdate:
    """Put the prompt before the first piece of an answer."""
    text = answer.state.request.prompt
    if not isinstance(text, str):
        text = answer.variant.renderer.tokenizer.decode(list(text))
    return replace(update, text=text, logprobs=(*answer.prompt_logprobs, *update.logprobs))


def _only_read(answer: _Answer) -> AnswerUpdate:
    """End a request that wants no token."""
    state = answer.state
    end = AnswerUpdate(state.request.id, finish_reason="length", num_prompt_tokens=state.num_prompt)
    if answer.hidden_sum is not None:
        # The direction of a sum is that of the mean.
        vector = torch.nn.functional.normalize(answer.hidden_sum, dim=0)
        end = replace(end, embedding=tuple(vector.tolist()))
    return _with_prompt(end, answer) if state.request.echo else end
