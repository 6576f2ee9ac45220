"""Candidates of a comparison: prompts and variants, each asked the same questions in its way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from kamerton.core.errors import EvaluationError, RenderingError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.generation import GenerationSettings
from kamerton.core.language import translated
from kamerton.core.protocols import Engine
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    TextExample,
)
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import TokenizedExample
from kamerton.evaluation.items import Answers, Item, ReadCalls, run_items
from kamerton.evaluation.items import Progress as ReportItems
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.models.base import Base
from kamerton.models.rows.row import num_labelled
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant
from kamerton.training.forgetting import measure_general_loss
from kamerton.training.scoring import summed_losses
from kamerton.variants.opening import engine_of, make_ready

__all__ = [
    "Asked",
    "Candidate",
    "Measurable",
    "losses_of",
    "render_questions",
    "with_examples_that_fit",
]

Measurable = ChatExample | ClassificationExample | PreferenceExample | FeedbackExample | TextExample
"""An example with a question and a right answer, or a plain text, which is read."""


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """An example as one candidate is asked.

    Attributes:
        prompt: The prompt before it.
        rows: Rows with the right answer, for the loss; none where users disliked the answer.
    """

    prompt: Prompt
    rows: tuple[TokenizedExample, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A prompt or a variant that is measured.

    Attributes:
        name: The name in the comparison.
        renderer: The renderer of its questions.
        prompts: The prompts, of which the first that fits is used.
        variant: None for a prompt alone.
        own: Its generation defaults.
    """

    name: str
    renderer: Renderer
    prompts: tuple[Prompt, ...]
    variant: Variant | None = None
    own: GenerationSettings = field(default_factory=GenerationSettings)

    def ask(self, example: Measurable, labels: Sequence[str]) -> Asked:
        """Render an example, its answer included, so that every label would fit as well.

        Args:
            example: A question.
            labels: The labels to choose from, in a classification.

        Returns:
            The rendered question.

        Raises:
            RenderingError: If it cannot be asked.
        """
        *longer, last = self.prompts
        for prompt in longer:
            try:
                return Asked(prompt, self._rows(prompt, example, labels))
            except RenderingError:
                continue
        return Asked(last, self._rows(last, example, labels))

    @contextmanager
    def attached(self, base: Base) -> Iterator[Engine]:
        """Attach the variant's adapter for a while.

        Args:
            base: The base without an adapter.

        Yields:
            The engine that answers; each question brings its own prompt.
        """
        adapter = make_ready(self.variant, base).adapter if self.variant else None
        try:
            yield engine_of(base, self.renderer)
        finally:
            if adapter is not None:
                adapter.detach()

    def answer(
        self,
        engine: Engine,
        items: Sequence[Item],
        asked: Sequence[Asked],
        settings: EvaluationSettings,
        report: ReportItems,
        read_calls: ReadCalls | None = None,
    ) -> Answers:
        """Answer questions.

        Args:
            engine: The engine that `attached` gives.
            items: The questions.
            asked: The same, as `ask` gave them.
            settings: The evaluation's settings.
            report: A function that is told how many are done, and of how many.
            read_calls: Reads calls in its answers, where questions have to do with tools.

        Returns:
            The answers and what they cost.
        """
        prompted = [
            replace(item, chat=each.prompt.apply(item.chat))
            for item, each in zip(items, asked, strict=True)
        ]
        return run_items(engine, self.name, prompted, settings, report, read_calls, self.own)

    def exact_prompt(self, item: Item, asked: Asked) -> str:
        """Write out what the model reads before its answer.

        Args:
            item: A question.
            asked: The same, as `ask` gave it.

        Returns:
            Template, system text, worked examples and question, with all special tokens.
        """
        ids = self.renderer.prompt_ids(asked.prompt.apply(item.chat), item.tools)
        return str(self.renderer.tokenizer.decode(ids, skip_special_tokens=False))

    def with_losses(self, base: Base, answers: Answers, asked: Sequence[Asked]) -> Answers:
        """Measure the losses; a reward model has none.

        Args:
            base: The base with the adapter that `attached` attached.
            answers: The answers to all questions, to fill in.
            asked: All questions.

        Returns:
            The answers with the loss on the right answers and on general text.
        """
        if base.score_head is not None:
            return answers
        losses, counts = losses_of(base, asked)
        return replace(
            answers,
            holdout_loss=sum(losses) / sum(counts) if any(counts) else None,
            holdout_tokens=sum(counts),
            losses=tuple(losses) if any(counts) else (),
            loss_tokens=tuple(counts) if any(counts) else (),
            general_loss=measure_general_loss(base, self.renderer),
        )

    def _rows(
        self, prompt: Prompt, example: Measurable, labels: Sequence[str]
    ) -> tuple[TokenizedExample, ...]:
        if isinstance(example, ClassificationExample):
            # The label with the most characters stands for the one with the most tokens.
            longest = replace(example, label=max(labels, key=len))
            self.renderer.render_rows(longest, prompt.apply)
        if isinstance(example, PreferenceExample):
            self.renderer.render_pair(example, prompt.apply)
        rows = self.renderer.render_rows(example, prompt.apply)
        return () if isinstance(example, FeedbackExample) and not example.is_desirable else rows


def losses_of(base: Base, asked: Sequence[Asked]) -> tuple[list[float], list[int]]:
    """Measure how much right answers or plain texts surprise what is attached.

    Args:
        base: The base with an adapter or without.
        asked: The questions with their right answers.

    Returns:
        Of each the negative natural-log probability, summed over its labelled tokens, and the
        number of these.
    """
    found = iter(summed_losses(base, [row for each in asked for row in each.rows]))
    losses = [sum(next(found) for _ in each.rows) for each in asked]
    return losses, [num_labelled(each.rows) for each in asked]


def render_questions(
    candidates: Sequence[Candidate],
    held: Sequence[Measurable],
    labels: Sequence[str],
    sink: Sink,
) -> tuple[list[Measurable], list[list[Asked]]]:
    """Render what is measured for every candidate; what one of them cannot take, none is asked.

    Args:
        candidates: The candidates to ask.
        held: The questions.
        labels: The labels to choose from, in classifications.
        sink: Receives progress, and warnings of what is left out.

    Returns:
        The questions that are asked, and by candidate how.

    Raises:
        EvaluationError: If none can be asked.
    """
    asked: list[list[Asked]] = [[] for _ in candidates]
    kept: list[Measurable] = []
    problems: list[str] = []
    rendering = translated("rendering questions")
    for number, example in enumerate(held, 1):
        try:
            made = [one.ask(example, labels) for one in candidates]
        except RenderingError as error:
            problems.append(error.message)
        else:
            kept.append(example)
            for own, new in zip(asked, made, strict=True):
                own.append(new)
        sink(Progress(rendering, number, len(held), translated("questions")))
    if not kept:
        raise EvaluationError(
            translated(
                "none of the {all} examples can be asked: {problem}",
                all=len(held),
                problem=problems[0],
            )
        )
    if problems:
        found = translated(
            "{num} of {all} examples are not asked: {problem}",
            num=len(problems),
            all=len(held),
            problem=problems[0],
        )
        sink(Notice(found, "warning"))
    return kept, asked


def with_examples_that_fit(
    candidates: Sequence[Candidate], asked: Sequence[list[Asked]], sink: Sink
) -> tuple[list[Candidate], list[list[Asked]]]:
    """Say where fewer worked examples fit, and leave out a few-shot prompt that shows none at all.

    Args:
        candidates: The candidates to ask.
        asked: The questions of each candidate, as `render_questions` gave them.
        sink: Receives warnings.

    Returns:
        The items that stay, and their questions.
    """
    stay: list[tuple[Candidate, list[Asked]]] = []
    for one, own in zip(candidates, asked, strict=True):
        num = len(one.prompts[0].demonstrations)
        fit = [len(each.prompt.demonstrations) for each in own]
        fewer = [shown for shown in fit if shown < num]
        if len(one.prompts) > 1 and num and not any(fit):
            none = translated(
                "{name}: of the worked examples 0 of {num} fit in the base's context beside any "
                "question: left out",
                name=one.name,
                num=num,
            )
            sink(Notice(none, "warning"))
            continue
        if fewer:
            least, most = min(fewer), max(fewer)
            said = {"least": least, "most": most}
            told = translated(
                "{name}: {fewer} of {all} questions leave room for fewer worked examples in the "
                "base's context: {how_many} of {num} fit",
                name=one.name,
                fewer=len(fewer),
                all=len(own),
                how_many=least if least == most else translated("{least} to {most}", **said),
                num=num,
            )
            sink(Notice(told, "warning"))
        bare = sum(each.prompt.system != one.prompts[0].system for each in own)
        if bare:
            told = translated(
                "{name}: {bare} of {all} questions leave no room for the instruction in the base's "
                "context",
                name=one.name,
                bare=bare,
                all=len(own),
            )
            sink(Notice(told, "warning"))
        stay.append((one, own))
    return [one for one, _ in stay], [own for _, own in stay]
