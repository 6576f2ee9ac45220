"""Rendering: an example becomes token ids and a loss mask, in this one place.

A row is built from the pieces that generation would see: the prompt up to and including the
generation prompt, then the answer up to and including its end-of-turn token, turn by turn. The
pieces are tokenised apart and the mask is a fact of the construction, so headers are never
trained, EOS always is, and `prompt_ids` + `answer_ids` are the very ids of the row.

Generation markers of a template are not needed for that; where there are some, they are compared
once with what is trained (see `RenderFacts`). A template may rewrite an earlier answer when the
chat goes on (Qwen3 deletes its thinking). Such an answer is not trained in the row of a later one:
`render_rows` gives it a row of its own, in which it stands as it would be generated.

The file is long because all kinds of rows share one limit, one way to name what is wrong, and one
way to write a turn.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from kamerton.core.errors import RenderingError
from kamerton.core.language import translated
from kamerton.core.protocols import Chat
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
    SourceLocation,
    TextExample,
)
from kamerton.data.identity import single_text
from kamerton.data.rendering.answers import AnswerMarks, AnswerReader, split_reasoning
from kamerton.data.rendering.assembly import Assembler, Assembly, TrainOn
from kamerton.data.rendering.chats import changes_of
from kamerton.data.rendering.facts import RenderFacts, find_facts, find_traits
from kamerton.data.rendering.marks import find_marks
from kamerton.data.rendering.templates import Tokenizer, reads_argument
from kamerton.data.rendering.tokenized import (
    RenderSettings,
    TokenizedExample,
    TokenizedFeedback,
    TokenizedPair,
    TokenizedPrompt,
    chat_of,
    untrained,
)
from kamerton.data.rendering.tokens import Decoder, Encoder, Span, spans, unwrapped
from kamerton.data.rendering.turns import ChatWriter, Tools
from kamerton.data.rows import Rejection

__all__ = [
    "Apply",
    "RenderSettings",
    "Renderer",
    "TokenizedExample",
    "TokenizedPair",
    "chat_of",
    "make_renderer",
]

Apply = Callable[[Chat], Sequence[Mapping[str, Any]]]
"""Puts a prompt (system text, demonstrations) before messages; its answers are not trained."""


def make_renderer(
    tokenizer: Tokenizer,
    settings: RenderSettings,
    *,
    vocab_size: int | None = None,
    context: int | None = None,
    ends: Collection[int] = (),
) -> "Renderer":
    """Try a tokenizer's template out and make its renderer.

    Args:
        tokenizer: A Transformers tokenizer.
        settings: Settings of rendering: what to train, how long, thinking.
        vocab_size: Rows of the embedding; ids beyond it are refused.
        context: Tokens the base can see; longer rows are overlong whatever the settings allow.
        ends: Tokens that end what the base generates, beside those that the template writes.

    Returns:
        The renderer; its `facts` say what was found.

    Raises:
        RenderingError: If the template cannot write a chat, nothing can end an answer, or the
            template does not read an argument that it is to be given.
    """
    encoder = Encoder(tokenizer)
    _ensure_read(tokenizer, settings.template_arguments)
    writer = ChatWriter(
        tokenizer,
        encoder,
        settings.thinking,
        arguments=settings.template_arguments,
        date=settings.date,
    )
    writer = replace(writer, traits=find_traits(writer))
    assembler = Assembler(writer, find_facts(writer, vocab_size), vocab_size)
    return Renderer(assembler, settings, context, find_marks(writer), ends)


def _ensure_read(tokenizer: Tokenizer, arguments: Iterable[str]) -> None:
    """Refuse arguments that change nothing."""
    unread = [name for name in arguments if not reads_argument(tokenizer, name)]
    if unread:
        raise RenderingError(
            translated(
                "render.template_arguments: the chat template does not read '{unread}'",
                unread=unread[0],
            ),
            hint=translated("leave it out, or look into the base's chat template for its name"),
        )


class Renderer:
    """Turns examples into rows and chats into prompts; made by `make_renderer`.

    Args:
        assembler: Turns chats into ids.
        settings: Settings of rendering: what to train and how long.
        context: Tokens the base can see, if known.
        marks: Marks that the template writes around answers.
        ends: Tokens that end what the base generates, beside those that the template writes.
    """

    def __init__(
        self,
        assembler: Assembler,
        settings: RenderSettings,
        context: int | None = None,
        marks: AnswerMarks | None = None,
        ends: Collection[int] = (),
    ) -> None:
        self._marks = marks or AnswerMarks()
        self.settings = settings
        self.max_tokens = min(settings.max_tokens, context or settings.max_tokens)
        """Longest row: the setting, or the base's context where that is shorter."""
        self._limit = "the base's context" if self.max_tokens == context else "render.max_tokens"
        self.facts: RenderFacts = assembler.facts
        """What was found out about the tokenizer and its template."""
        writer = assembler.writer
        stops = {writer.encoder.control[text] for text in writer.traits.stops}
        inside = {writer.encoder.control[text] for text in self._marks.inside(writer.encoder)}
        self.stop_ids = frozenset(stops | (set(ends) - inside))
        """EOS, end-of-turn ids and the base's own ends: each of them ends an answer."""
        self._assembler = assembler

    def render(self, example: Example, apply: Apply | None = None) -> TokenizedExample:
        """Render an example into one row.

        Args:
            example: Any kind; the better answer of a preference is rendered.
            apply: Puts a prompt around its messages, such as `Prompt.apply`.

        Returns:
            The row of its last answer, and of all earlier ones that stand in it as they would be
            generated; a note says when there are others. A long plain text gives its first window.

        Raises:
            RenderingError: If it cannot be rendered, with location and reason.
        """
        first, *others = self.render_rows(example, apply)
        if not others or isinstance(example, TextExample):
            return first
        note = f"{len(others)} earlier answers are not trained: the chat template rewrites them"
        return replace(first, notes=(*first.notes, note))

    def render_rows(
        self, example: Example, apply: Apply | None = None
    ) -> tuple[TokenizedExample, ...]:
        """Render an example into as many rows as its template demands, nearly always one.

        Args:
            example: Any kind; the better answer of a preference is rendered.
            apply: Puts a prompt around its messages.

        Returns:
            Rows in which every answer is trained exactly once, as it would be generated; the
            windows of a long plain text.

        Raises:
            RenderingError: If it cannot be rendered, with location and reason.
        """
        with _at(example.location):
            return tuple(self._rows(example, apply))

    def render_chat(
        self, messages: Chat, tools: Tools = (), location: SourceLocation | None = None
    ) -> TokenizedExample:
        """Render messages into one row.

        Args:
            messages: With at least one answer; `weight` 0 leaves an answer untrained.
            tools: Schemas for the template.
            location: For error messages.

        Returns:
            The row of the last answer.

        Raises:
            RenderingError: If it cannot be rendered, with location and reason.
        """
        with _at(location):
            return self._fitting(messages, tools, location, self.settings.train_on)[0]

    def render_all(
        self, examples: Iterable[Example], apply: Apply | None = None
    ) -> tuple[list[TokenizedExample], list[Rejection]]:
        """Render examples, setting those aside that cannot be.

        Args:
            examples: Any kinds; both answers of a preference are rendered.
            apply: Puts a prompt around their messages.

        Returns:
            Rows in the order of the examples, and what was dropped with its reason.
        """
        rows: list[TokenizedExample] = []
        dropped: list[Rejection] = []
        for example in examples:
            try:
                if isinstance(example, PreferenceExample):
                    rows += self._pair(example, apply).answers
                else:
                    rows += self._rows(example, apply)
            except RenderingError as error:
                dropped.append(Rejection(example.location, "", error.message))
        return rows, dropped

    def render_pair(self, example: PreferenceExample, apply: Apply | None = None) -> TokenizedPair:
        """Render both answers of a preference; overlong ones are dropped, never shortened.

        Args:
            example: Both continuations begin with the assistant's turn.
            apply: Puts a prompt around its messages.

        Returns:
            Two rows that begin with the same prompt ids.

        Raises:
            RenderingError: If they cannot be rendered or are the same, with location and reason.
        """
        with _at(example.location):
            return self._pair(example, apply)

    def render_feedback(
        self, example: FeedbackExample, other: Sequence[Message], apply: Apply | None = None
    ) -> TokenizedFeedback:
        """Render a judged answer, and another prompt's answer as if it were given here.

        The other one is only compared with: it is cut where it would be too long.

        Args:
            example: Its completion begins with the assistant's turn.
            other: The other answer.
            apply: Puts a prompt around its messages.

        Returns:
            Two rows that begin with the same prompt ids.

        Raises:
            RenderingError: If they cannot be rendered, with location and reason.
        """
        with _at(example.location):
            num_prompt, (own,) = self._answers(example, (example.completion,), apply)
            _, (compared,) = self._answers(example, (other,), apply, cut=True)
        return TokenizedFeedback(num_prompt, own, compared, example.is_desirable)

    def render_prompt(self, example: Example, apply: Apply | None = None) -> TokenizedPrompt:
        """Render what stands before an example's last answer, to be answered by the model.

        Args:
            example: Anything but plain text; a preference brings both answers along.
            apply: Puts a prompt around its messages.

        Returns:
            The prompt.

        Raises:
            RenderingError: If it cannot be rendered, with location and reason.
        """
        with _at(example.location):
            if isinstance(example, PreferenceExample):
                _refuse_tools(example.tools)
                pair = self._pair(example, apply)
                texts = tuple(map(_only_text, (example.chosen, example.rejected)))
                return TokenizedPrompt(
                    pair.prompt_ids, example.prompt, example.extra, example.location,
                    texts[0], pair.answers, texts,
                )  # fmt: skip
            messages, answer = _at_answer(example)
            ids = np.array(self.prompt_ids(apply(messages) if apply else messages), dtype=np.int32)
            if len(ids) >= self.max_tokens:
                raise self._overlong(len(ids) + 1)
            content = answer.get("content")
            reference = split_reasoning(content).text if isinstance(content, str) else ""
            return TokenizedPrompt(ids, messages, example.extra, example.location, reference)

    def prompt_ids(self, messages: Chat, tools: Tools = ()) -> list[int]:
        """Make the prompt for generation.

        Args:
            messages: Up to the answer that is wanted.
            tools: Schemas for the template.

        Returns:
            Ids with one BOS where the base uses one, ending with the generation prompt.
        """
        return self._assembler.prompt(messages, tools)

    def answer_ids(
        self, messages: Chat, answer: str, tools: Tools = ()
    ) -> tuple[list[int], list[int]]:
        """Make the ids of a prompt and of one answer to it.

        Args:
            messages: Up to the answer.
            answer: Its text.
            tools: Schemas for the template.

        Returns:
            The ids of `prompt_ids`, and those of the answer up to its end-of-turn token: together
            they are the row that training makes of the same chat.
        """
        prompt, answers = self.answers_ids(messages, [answer], tools)
        return prompt, answers[0]

    def answers_ids(
        self, messages: Chat, answers: Sequence[str], tools: Tools = (), *, as_written: bool = False
    ) -> tuple[list[int], list[list[int]]]:
        """Make the ids of a prompt and of several answers to it, for scoring labels.

        Args:
            messages: Up to the answer.
            answers: Their texts.
            tools: Schemas for the template.
            as_written: Take answers that the template would refuse as they are: models write empty
                ones too.

        Returns:
            As `answer_ids`, for each.
        """
        found = self._assembler.answers(messages, answers, tools, as_written=as_written)
        return self.prompt_ids(messages, tools), found

    def opening_ids(self) -> list[int]:
        """Make what stands between a prompt and an answer without reasoning.

        Returns:
            Ids that end the reasoning that the prompt begins, and open the answer; mostly none.
        """
        block = self._marks.blocks[0]
        text = f"\n{block.end}{block.tail}" if self._marks.opened else ""
        encoder = self._assembler.writer.encoder
        text += unwrapped(self._marks.opening, encoder.control)
        return encoder.encode(text, after="\n")

    @property
    def tokenizer(self) -> Any:
        """What texts are read with, and written with."""
        return self._assembler.writer.tokenizer

    def decoder(self) -> Decoder:
        """Give what turns the ids of one answer into text, for a reader."""
        return Decoder(self.tokenizer, self._assembler.writer.encoder)

    def reader(self) -> AnswerReader:
        """Give what tells an answer from its reasoning and from what the template adds."""
        return AnswerReader(self._marks)

    def count(self, rendered: TokenizedExample) -> tuple[int, int]:
        """Count what must not be wrong.

        Args:
            rendered: A row.

        Returns:
            BOS tokens (those at the start, where the token also begins turns), and trained tokens
            that end an answer.
        """
        is_bos = rendered.ids == self.facts.bos_id
        if self.facts.bos_in_turns and not is_bos.all():
            is_bos = is_bos[: int(np.argmin(is_bos))]
        num_bos = int(np.count_nonzero(is_bos))
        ends = np.isin(rendered.ids, list(self.stop_ids)) & rendered.loss_mask
        return num_bos, int(np.count_nonzero(ends))

    def show(self, rendered: TokenizedExample) -> list[Span]:
        """Split a row into runs of trained and other text, for printing.

        Args:
            rendered: A row.

        Returns:
            Its text in runs.
        """
        return spans(self.tokenizer, rendered.ids.tolist(), rendered.loss_mask.tolist())

    def _pair(self, example: PreferenceExample, apply: Apply | None) -> TokenizedPair:
        answers = (example.chosen, example.rejected)
        num_prompt, rows = self._answers(example, answers, apply)
        if np.array_equal(rows[0].ids, rows[1].ids):
            raise RenderingError(
                translated("chosen and rejected must differ, found the same tokens")
            )
        return TokenizedPair(num_prompt, rows[0], rows[1])

    def _answers(
        self,
        example: PreferenceExample | FeedbackExample,
        answers: Sequence[Sequence[Message]],
        apply: Apply | None,
        *,
        cut: bool = False,
    ) -> tuple[int, list[TokenizedExample]]:
        """Render answers to one prompt, and count the tokens that their rows share."""
        before = untrained(apply(example.prompt) if apply else example.prompt)
        tools, location = example.tools, example.location
        shared = self.prompt_ids(before, tools)
        rows = [
            self._chat([*before, *answer], tools, location, "assistant", cut=cut)[0]
            for answer in answers
        ]
        for row in rows:
            if row.ids[: len(shared)].tolist() != shared or len(row.ids) == len(shared):
                raise RenderingError(
                    translated("the answers must go on from one prompt, found other text there")
                )
        return len(shared), rows

    def _rows(self, example: Example, apply: Apply | None) -> list[TokenizedExample]:
        if isinstance(example, TextExample):
            rows = self._assembler.text(example.text, self.max_tokens)
            note = f"the text is longer than {self.max_tokens} tokens and is cut into windows"
            notes = (note,) if len(rows) > 1 else ()
            return [replace(self._row(row, example.location), notes=notes) for row in rows]
        messages, tools = chat_of(example)
        if apply:
            own = sum(message["role"] != "system" for message in messages)
            applied = apply(messages)
            cut = len(applied) - own
            messages = (*untrained(applied[:cut]), *applied[cut:])
        # Objectives compare whole answers of a pair, whatever part of a chat is learnt.
        is_chat = isinstance(example, ChatExample | ClassificationExample)
        train_on = self.settings.train_on if is_chat else "assistant"
        return self._fitting(messages, tools, example.location, train_on)

    def _fitting(
        self, messages: Chat, tools: Tools, location: SourceLocation | None, train_on: TrainOn
    ) -> list[TokenizedExample]:
        """Render, leaving the oldest turns out where that is allowed and needed."""
        try:
            return self._chat(messages, tools, location, train_on)
        except _OverlongError as error:
            overlong = error
        system = [message for message in messages if message["role"] == "system"]
        rest = [message for message in messages if message["role"] != "system"]
        last = max(i for i, message in enumerate(rest) if message["role"] == "assistant")
        starts = [i for i in range(1, last) if rest[i]["role"] == "user"]
        if self.settings.overlong == "drop":
            way = ", or set render.overlong = 'shorten'" if starts else ""
            raise _OverlongError(overlong.message, hint=f"{overlong.hint}{way}")
        for start in starts:
            try:
                rows = self._chat([*system, *rest[start:]], tools, location, train_on)
            except _OverlongError:
                continue
            note = f"the {start} oldest messages are left out to fit {self.max_tokens} tokens"
            return [replace(row, notes=(*row.notes, note)) for row in rows]
        raise self._overlong()

    def _chat(
        self,
        messages: Chat,
        tools: Tools,
        location: SourceLocation | None,
        train_on: TrainOn,
        *,
        cut: bool = False,
    ) -> list[TokenizedExample]:
        assemblies = self._assembler.chat(messages, tools, train_on)
        rows = [self._row(assembly, location, cut=cut) for assembly in assemblies]
        notes = changes_of(messages, self._assembler.writer.traits)
        return [replace(row, notes=notes) for row in rows] if notes else rows

    def _row(
        self, assembly: Assembly, location: SourceLocation | None, *, cut: bool = False
    ) -> TokenizedExample:
        if len(assembly.ids) > self.max_tokens and not cut:
            raise self._overlong(len(assembly.ids))
        ids = np.array(assembly.ids[: self.max_tokens], dtype=np.int32)
        loss_mask = np.zeros(len(ids), dtype=np.bool_)
        for first, end in assembly.trained:
            loss_mask[first:end] = True
        if not loss_mask.any():
            raise RenderingError(translated("a row must have a token to train, found none"))
        return TokenizedExample(ids, loss_mask, location)

    def _overlong(self, num_tokens: int | None = None) -> "_OverlongError":
        found = "even its last turn is longer" if num_tokens is None else f"found {num_tokens}"
        raisable = self._limit == "render.max_tokens"
        way = "raise render.max_tokens" if raisable else "take a base with a longer context"
        return _OverlongError(
            translated(
                "a row must have at most {max_tokens} tokens ({limit}), {found}",
                max_tokens=self.max_tokens,
                limit=self._limit,
                found=found,
            ),
            hint=translated("{way}, or shorten the text", way=way),
        )


def _at_answer(example: Example) -> tuple[tuple[Message, ...], Message]:
    """Messages up to the last answer of an example that is no preference, and that answer."""
    if isinstance(example, FeedbackExample):
        _refuse_tools(example.tools)
        return example.prompt, example.completion[0]
    messages, tools = chat_of(example)
    _refuse_tools(tools)
    last = max((n for n, one in enumerate(messages) if one["role"] == "assistant"), default=0)
    if not last:
        raise RenderingError(translated("a chat must have a question before its answer"))
    return messages[:last], messages[last]


def _refuse_tools(tools: Tools) -> None:
    if tools:
        raise RenderingError(
            translated("a chat with tools cannot be answered here: its answers are calls")
        )


def _only_text(answer: Sequence[Message]) -> str:
    text = single_text(answer)
    if text is None:
        raise RenderingError(translated("answers of a pair must be one text each to be judged"))
    return split_reasoning(text).text


class _OverlongError(RenderingError):
    """A row does not fit."""


@contextmanager
def _at(location: SourceLocation | None) -> Iterator[None]:
    """Name the location of whatever goes wrong inside."""
    try:
        yield
    except RenderingError as error:
        if location is None:
            raise
        raise RenderingError(f"{location}: {error.message}", hint=error.hint) from error
