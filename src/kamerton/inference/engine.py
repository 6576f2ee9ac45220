"""The embedded engine: answers many chats together over one base with what is attached to it.

Every call has a batch of its own. Nothing of it is kept for the next call: between two calls an
adapter may learn.

An answer does not depend on who else is in its batch, up to rounding: matrices of another height
add up in another order. In float32 a near tie hardly ever tips. In bfloat16 greedy answers differ
now and then, and sampled ones over a large vocabulary soon do.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Chat, Generation, Sample, Score, TokenEvent, ToolSchemas
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.data.rendering.renderer import Renderer
from kamerton.inference.answer import Answer
from kamerton.inference.answer_rows import PromptWithAnswers, answer_logprobs, read_answers
from kamerton.inference.batch import Batch
from kamerton.inference.detokenise import TextStream
from kamerton.inference.held_variants import LoadedVariant
from kamerton.inference.request_state import RequestState
from kamerton.inference.sampling import random_stream
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.prompting.prompt import Prompt

__all__ = ["EmbeddedEngine", "tools_each"]


def tools_each(chats: Sequence[Chat], tools: Sequence[ToolSchemas]) -> Sequence[ToolSchemas]:
    """Give the functions that each chat may call.

    Args:
        chats: The chats.
        tools: The tools of each chat, or empty.

    Returns:
        One per chat.
    """
    return tools or [()] * len(chats)


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
        # The base as it stands: with what is attached to it when answers are written.
        model = ServedModel(base.identity.id, "attached", "", base.identity.id)
        self._attached = LoadedVariant(model, renderer, self._prompt)
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
        asked = enumerate(zip(chats, tools_each(chats, tools), strict=True))
        answers = [
            self._begin(index, self._renderer.prompt_ids(self._prompt.apply(chat), own), generation)
            for index, (chat, own) in asked
        ]
        yield from self._write(answers)

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
        answers = [self._begin(index, prompt, generation) for index, prompt in enumerate(prompts)]
        for answer in answers:
            answer.logprobs = []
        texts, reasonings = [""] * len(answers), [""] * len(answers)
        for event in self._write(answers):
            texts[event.index] += event.text
            reasonings[event.index] += event.reasoning
        return [
            Sample(
                tuple(answer.state.written),
                tuple(answer.logprobs or ()),
                text,
                ended=answer.state.ids[-1] in self._renderer.stop_ids,
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

    def _begin(self, index: int, prompt: Sequence[int], generation: Generation) -> Answer:
        """Make the answer to a prompt; its place among the others decides its random numbers."""
        room = room_of(self._base)
        _ensure_room(len(prompt), room)
        longest = len(prompt) + generation.max_tokens
        state = RequestState(
            AnswerRequest(str(index), self._attached.model.name, generation),
            list(prompt),
            len(prompt),
            longest if room is None else min(longest, room),
            self._base.num_virtual,
        )
        text = TextStream(self._renderer, generation.stop)
        return Answer(state, self._attached, random_stream(generation, index), text)

    def _write(self, answers: Sequence[Answer]) -> Iterator[TokenEvent]:
        """Compute answers in a batch of their own: weights may change before the next."""
        num_slots = min(self._max_batch, len(answers))
        if not num_slots:
            return
        batch = Batch(self._base, num_slots, max(self._tokens_per_row, num_slots))
        # The memory of a slot is that of the longest: those of similar length are there together.
        for answer in sorted(answers, key=lambda answer: answer.state.num_prompt):
            batch.add(answer)
        while not batch.scheduler.is_idle:
            for update in batch.step():
                index = int(update.id)
                if (failure := answers[index].failure) is not None:
                    raise failure
                yield TokenEvent(index, update.text, update.finish_reason, update.reasoning)

    def _with_answers(
        self, chat: Chat, candidates: Sequence[str], tools: ToolSchemas
    ) -> PromptWithAnswers:
        prompt, answers = self._renderer.answers_ids(self._prompt.apply(chat), candidates, tools)
        longest = max(map(len, answers), default=0)
        _ensure_room(len(prompt) + longest - 1, room_of(self._base))
        return prompt, answers


def _ensure_room(num_prompt: int, room: int | None) -> None:
    if room is not None and num_prompt >= room:
        raise ModelError(
            f"a prompt of {num_prompt} tokens leaves no room in the base's context of {room}",
            hint="shorten the system text, the demonstrations or the question",
        )
