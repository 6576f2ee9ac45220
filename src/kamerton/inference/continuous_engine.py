"""The engine that serves: requests to several variants of one base, whoever sends them.

It admits or refuses requests; its batch computes them.
"""

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from kamerton.core.errors import KamertonError, MissingExtraError, ModelError
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tool_calls import CallForm
from kamerton.inference.answer import Answer
from kamerton.inference.batch import Batch
from kamerton.inference.calls import CallReader, call_form_of
from kamerton.inference.detokenise import PlainStream, TextStream
from kamerton.inference.grammar import GrammarCompiler, GrammarState
from kamerton.inference.held_variants import HeldVariants, LoadedVariant, VariantSource
from kamerton.inference.request_state import RequestState
from kamerton.inference.reweighting import Reweighter
from kamerton.inference.sampling import random_stream
from kamerton.inference.tokenizing import prompt_ids, reply_of
from kamerton.models.base import Base
from kamerton.models.context import room_of

__all__ = ["ContinuousEngine", "LoadedVariant"]

_MOST_CHARACTERS = 64
"""Characters of a token that a prompt may have on average; white space has the longest."""


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
        batch: Computes the answers.
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
        self.batch = Batch(
            base,
            num_slots,
            tokens_per_step,
            cache_bytes=cache_mib << 20,
            beginnings_bytes=beginnings_mib << 20,
        )
        self._grammars = GrammarCompiler(base.identity.vocab_size)
        self._call_forms: WeakKeyDictionary[Renderer, CallForm] = WeakKeyDictionary()
        self.variants = HeldVariants(
            variants,
            lambda: (answer.variant for answer in self.batch.answers.values()),
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
        return self.batch.scheduler.is_idle

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
        self.batch.add(Answer(state, variant, random, text, rules, calls))
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
        updates = [AnswerUpdate(name, error=message) for name in self.batch.answers]
        self._remove({update.id for update in updates})
        return updates

    def step(self) -> list[AnswerUpdate]:
        """Compute one step of everything that runs.

        Returns:
            Updates of the requests that have a new token.
        """
        updates = self.batch.step()
        if any(update.is_last for update in updates):
            self.variants.settle()
        return updates

    def _remove(self, ids: set[str]) -> None:
        self.batch.remove(ids)
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


def _refusal(request: AnswerRequest, message: str) -> AnswerUpdate:
    return AnswerUpdate(request.id, error=message, is_client_error=True)
