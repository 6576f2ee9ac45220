"""The preview of `kamerton check --show`: examples as a base would see them in training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.dataset import Loaded
from kamerton.data.examples import Example, PreferenceExample, TextExample
from kamerton.data.rendering.renderer import Renderer, make_renderer
from kamerton.data.rendering.tokenized import RenderSettings, TokenizedExample, TokenizedPrompt
from kamerton.data.rendering.tokens import Span
from kamerton.data.rendering.unknown import unknown_share
from kamerton.data.rows import Rejection
from kamerton.evaluation.items import spread
from kamerton.objectives.online import OnlineSettings
from kamerton.prompting.prompt import Prompt

if TYPE_CHECKING:
    from kamerton.objectives.catalogue import ObjectiveSettings

__all__ = ["Shown", "show_examples"]

_MOST_COUNTED = 2000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as it would be trained.

    Attributes:
        location: `file:line`, and which of its rows.
        spans: Its text in runs, trained or not; empty when it cannot be rendered.
        num_tokens: The number of the row's tokens.
        num_trained: The number of tokens that are learned.
        num_bos: BOS tokens; one, or none for bases without.
        num_ends: Trained tokens that end an answer.
        columns: The other columns of a question that the model answers itself, which reward
            functions and checks get; None where the answer is given.
        problem: Why it cannot be rendered.
    """

    location: str
    spans: tuple[Span, ...] = ()
    num_tokens: int = 0
    num_trained: int = 0
    num_bos: int = 0
    num_ends: int = 0
    columns: tuple[str, ...] | None = None
    problem: str = ""


def show_examples(
    loaded: Loaded,
    base: str,
    settings: RenderSettings,
    count: int,
    prompt: Prompt | None = None,
    new_tokens: Sequence[str] = (),
    objective: "ObjectiveSettings | None" = None,
) -> tuple[list[tuple[str, str]], list[str], list[Shown]]:
    """Render the first examples as a base would see them.

    Args:
        loaded: The data set.
        base: A folder, Hub id or builtin; only its tokenizer is read.
        settings: The settings of what is trained.
        count: The number of examples.
        prompt: The recipe's, which stands before their messages.
        new_tokens: New tokens of the recipe's adapter.
        objective: The recipe's; of examples whose questions the model answers itself, only those
            are shown, and the answers that it learns from beside its own.

    Returns:
        Facts about the rendering and about the rows of all examples (of an even choice of them
        where there are more than 2,000) as name and value, notices, and the examples.

    Raises:
        DataError: If there is no example.
    """
    from transformers import AutoConfig

    from kamerton.models.context import context_of
    from kamerton.models.load import find_base, load_tokenizer
    from kamerton.models.new_tokens import rows_with, tokenizer_with

    if not loaded.examples:
        raise DataError(
            translated("{source}: there is no usable example to show", source=loaded.source)
        )
    own, vocab_size = load_tokenizer(base)
    tokenizer = tokenizer_with(own, new_tokens)
    vocab_size = rows_with(vocab_size, own, tokenizer)
    context = context_of(AutoConfig.from_pretrained(find_base(base)))
    renderer = make_renderer(tokenizer, settings, vocab_size=vocab_size, context=context)
    prompt = prompt or Prompt()
    shown = []
    for example in loaded.examples[:count]:
        try:
            if isinstance(objective, OnlineSettings):
                shown += _asked(renderer, _question(renderer, example, prompt, objective))
            else:
                shown += _rows_of(renderer, example, prompt)
        except DataError as error:
            shown.append(Shown(str(example.location), problem=error.message))
    counted = spread(loaded.examples, _MOST_COUNTED)
    if isinstance(objective, OnlineSettings):
        questions, dropped = _questions(renderer, counted, prompt, objective)
        facts, notes = _facts_of_questions(renderer, questions, objective), []
        _, unknown = unknown_share(tokenizer, questions)
    else:
        rows, dropped = renderer.render_all(counted, prompt.apply)
        facts, notes = _facts_of_rows(renderer, rows), _notes_of(rows)
        _, unknown = unknown_share(tokenizer, rows)
    rendered = f"{len(counted) - len(dropped):,} of {len(counted):,}"
    facts = [*renderer.facts.lines(), ("examples rendered", rendered), *facts]
    notices = [*renderer.facts.notices, *notes, *([unknown] if unknown else [])]
    return facts, [*notices, *_problems(dropped, len(counted))], shown


def _rows_of(renderer: Renderer, example: Example, prompt: Prompt) -> list[Shown]:
    """Render an example: of a pair both answers, each with what it is called."""
    if isinstance(example, PreferenceExample):
        pair = renderer.render_pair(example, prompt.apply)
        return _both(renderer, pair.answers)
    if isinstance(example, TextExample):
        first, *others = renderer.render_rows(example, prompt.apply)
        windows = f", the first of {len(others) + 1} windows" if others else ""
        return [_shown(renderer, first, windows)]
    return [_shown(renderer, renderer.render(example, prompt.apply))]


def _both(renderer: Renderer, answers: Sequence[TokenizedExample]) -> list[Shown]:
    names = (", the better answer", ", the worse answer")
    return [_shown(renderer, row, what) for what, row in zip(names, answers, strict=True)]


def _shown(
    renderer: Renderer,
    row: TokenizedExample,
    what: str = "",
    columns: tuple[str, ...] | None = None,
) -> Shown:
    num_bos, num_ends = renderer.count(row)
    return Shown(
        location=f"{row.location}{what}",
        spans=tuple(renderer.show(row)),
        num_tokens=len(row.ids),
        num_trained=int(row.loss_mask.sum()),
        num_bos=num_bos,
        num_ends=num_ends,
        columns=columns,
    )


def _question(
    renderer: Renderer, example: Example, prompt: Prompt, objective: "ObjectiveSettings"
) -> TokenizedPrompt:
    """Render a question as training does; what cannot be one is a `DataError`."""
    from kamerton.objectives.catalogue import make_objective
    from kamerton.training.training_examples import makers_of

    made = make_objective(objective)
    (make,) = makers_of(renderer, prompt, [example], made.takes, objective.kind)
    (question,) = make()
    assert isinstance(question, TokenizedPrompt)
    return question


def _asked(renderer: Renderer, question: TokenizedPrompt) -> list[Shown]:
    """Show a question of which nothing is trained, and answers that are learned from beside."""
    columns = tuple(question.extra)
    what = ", the question" if question.given else ""
    asked = _shown(renderer, _untrained(question), what, columns)
    return [asked, *(_both(renderer, question.given) if question.given else ())]


def _untrained(question: TokenizedPrompt) -> TokenizedExample:
    return TokenizedExample(
        question.ids, np.zeros(len(question.ids), dtype=np.bool_), question.location
    )


def _questions(
    renderer: Renderer,
    examples: Sequence[Example],
    prompt: Prompt,
    objective: "ObjectiveSettings",
) -> tuple[list[TokenizedPrompt], list[Rejection]]:
    questions: list[TokenizedPrompt] = []
    dropped: list[Rejection] = []
    for example in examples:
        try:
            questions.append(_question(renderer, example, prompt, objective))
        except DataError as error:
            dropped.append(Rejection(example.location, "", error.message))
    return questions, dropped


def _facts_of_rows(renderer: Renderer, rows: Sequence[TokenizedExample]) -> list[tuple[str, str]]:
    """Count what training would begin with."""
    if not rows:
        return []
    total, trained = (
        sum(len(row.ids) for row in rows),
        sum(int(row.loss_mask.sum()) for row in rows),
    )
    return [
        ("rows", _lengths(renderer, rows)),
        ("trained tokens", f"{trained:,} of {total:,} ({trained / total:.0%})"),
        ("rows with another number of BOS", _wrong_bos(renderer, rows)),
        ("rows without a trained end", f"{sum(map(partial(_lacks_end, renderer), rows)):,}"),
    ]


def _notes_of(rows: Sequence[TokenizedExample]) -> list[str]:
    """Say of how many examples something was left out or changed."""
    noted = Counter(
        note for note, _ in {(note, row.location) for row in rows for note in row.notes}
    )
    return [f"{count:,} examples: {note}" for note, count in noted.most_common(_MOST_NAMED)]


def _facts_of_questions(
    renderer: Renderer, questions: Sequence[TokenizedPrompt], objective: OnlineSettings
) -> list[tuple[str, str]]:
    """Count what the model would be asked, and answers that it would learn from beside its own."""
    if not questions:
        return []
    given = [row for question in questions for row in question.given]
    asked = [_untrained(question) for question in questions]
    many = objective.num_generations > 1
    each = f"{objective.num_generations} answers" if many else "one answer"
    facts = [
        ("questions", _lengths(renderer, asked)),
        ("answered by the model",
         f"{each} to each, of at most {objective.max_tokens:,} tokens: these are trained"),
    ]  # fmt: skip
    if not given:
        return [*facts, ("questions with another number of BOS", _wrong_bos(renderer, asked))]
    return [*facts, *((f"given answers: {n}", v) for n, v in _facts_of_rows(renderer, given))]


def _lengths(renderer: Renderer, rows: Sequence[TokenizedExample]) -> str:
    lengths = [len(row.ids) for row in rows]
    return (
        f"{len(rows):,}, median {median(lengths):,.0f}, longest {max(lengths):,} of "
        f"{renderer.max_tokens:,} tokens"
    )


def _wrong_bos(renderer: Renderer, rows: Sequence[TokenizedExample]) -> str:
    expected = 0 if renderer.facts.bos_id is None else 1
    return f"{sum(renderer.count(row)[0] != expected for row in rows):,}"


def _lacks_end(renderer: Renderer, row: TokenizedExample) -> bool:
    # Windows of a text have a note; all but the last have no end because the text goes on.
    return not renderer.count(row)[1] and not row.notes


def _problems(dropped: Sequence[Rejection], num: int) -> list[str]:
    """List what training would drop."""
    if not dropped:
        return []
    named = [str(one) for one in dropped[:_MOST_NAMED]]
    more = [f"and {len(dropped) - len(named):,} more"] if len(dropped) > len(named) else []
    heading = f"{len(dropped):,} of {num:,} examples would be dropped:"
    return ["\n  ".join([heading, *named, *more])]
