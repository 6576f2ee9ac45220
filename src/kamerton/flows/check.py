"""`kamerton check`: audit examples and show what would be trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kamerton.core.errors import DataError, RenderingError
from kamerton.core.events import Progress, Sink
from kamerton.data.audit import Audit, audit
from kamerton.data.dataset import Loaded, load_examples, load_holdout
from kamerton.data.examples import Example, PreferenceExample
from kamerton.data.rendered import Rendered, RenderSettings
from kamerton.data.rendering import Apply, Renderer, make_renderer
from kamerton.data.settings import DataSettings
from kamerton.data.split import split
from kamerton.data.tokens import Span
from kamerton.evaluation.task import spread

__all__ = ["Checked", "Shown", "check_data", "show_examples"]

_MOST_COUNTED = 2000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as it would be trained.

    Attributes:
        place: Where it stands.
        spans: Its text in runs, trained or not; empty when it cannot be rendered.
        num_tokens: Of the whole row.
        num_trained: Of them learned.
        num_bos: BOS tokens; one, or none for bases without.
        num_ends: Trained tokens that end an answer.
        problem: Why it cannot be rendered.
    """

    place: str
    spans: tuple[Span, ...] = ()
    num_tokens: int = 0
    num_trained: int = 0
    num_bos: int = 0
    num_ends: int = 0
    problem: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A data set and what was found in it.

    Attributes:
        loaded: The data set.
        audit: The findings.
        train: The examples that would be learned from.
    """

    loaded: Loaded
    audit: Audit
    train: Sequence[Example]


def check_data(settings: DataSettings, sink: Sink) -> Checked:
    """Read and audit a data set.

    Args:
        settings: How to read it; a holdout share is split off to look for leakage.
        sink: Receives progress.

    Returns:
        The findings.

    Raises:
        DataError: If it cannot be read at all.
    """

    def reading(done: int, total: int | None) -> None:
        sink(Progress("reading", done, total, "bytes"))

    def examining(task: str, done: int, total: int) -> None:
        sink(Progress(task, done, total, "examples"))

    loaded = load_examples(settings, report=reading)
    train: Sequence[Example] = loaded.examples
    holdout: Sequence[Example] | None
    if isinstance(settings.holdout, str):
        holdout = load_holdout(settings, report=reading).examples
    else:
        train, holdout = split(loaded.examples, settings.holdout, settings.seed)
    found = audit(loaded, holdout or None, train=train, report=examining)
    return Checked(loaded, found, train)


def show_examples(
    loaded: Loaded,
    base: str,
    settings: RenderSettings,
    count: int,
    apply: Apply | None = None,
    new_tokens: Sequence[str] = (),
) -> tuple[list[tuple[str, str]], list[str], list[Shown]]:
    """Render the first examples as a base would see them.

    Args:
        loaded: The data set.
        base: A folder, Hub id or builtin; only its tokenizer is read.
        settings: What is trained.
        count: How many examples.
        apply: Puts a recipe's prompt around their messages.
        new_tokens: That the recipe's adapter brings along.

    Returns:
        Facts about the rendering and about the rows of all examples (of an even choice of them
        where there are more than 2,000) as name and value, notices, and the examples.

    Raises:
        DataError: If there is no example.
    """
    from transformers import AutoConfig

    from kamerton.inference.engine import context_of
    from kamerton.models.load import find_base, load_tokenizer
    from kamerton.models.new_tokens import rows_with, tokenizer_with

    if not loaded.examples:
        raise DataError(f"{loaded.source}: there is no usable example to show")
    own, vocab_size = load_tokenizer(base)
    tokenizer = tokenizer_with(own, new_tokens)
    vocab_size = rows_with(vocab_size, own, tokenizer)
    context = context_of(AutoConfig.from_pretrained(find_base(base)))
    renderer = make_renderer(tokenizer, settings, vocab_size=vocab_size, context=context)
    shown = []
    for example in loaded.examples[:count]:
        try:
            rows = _rows_of(renderer, example, apply)
        except RenderingError as error:
            shown.append(Shown(str(example.place), problem=error.message))
            continue
        for what, row in rows:
            num_bos, num_ends = renderer.count(row)
            shown.append(
                Shown(
                    place=f"{example.place}{what}",
                    spans=tuple(renderer.show(row)),
                    num_tokens=len(row.ids),
                    num_trained=int(row.trained.sum()),
                    num_bos=num_bos,
                    num_ends=num_ends,
                )
            )
    facts, problems = _facts_of_rows(renderer, spread(loaded.examples, _MOST_COUNTED), apply)
    return renderer.facts.lines() + facts, [*renderer.facts.notices, *problems], shown


def _rows_of(
    renderer: Renderer, example: Example, apply: Apply | None
) -> list[tuple[str, Rendered]]:
    """Render an example: of a pair both answers, each with what it is called."""
    if isinstance(example, PreferenceExample):
        pair = renderer.render_pair(example, apply)
        return [(", the better answer", pair.chosen), (", the worse answer", pair.rejected)]
    return [("", renderer.render(example, apply))]


def _facts_of_rows(
    renderer: Renderer, examples: Sequence[Example], apply: Apply | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Count what training would begin with, and list what it would drop."""
    rows, dropped = renderer.render_all(examples, apply)
    facts = [("examples rendered", f"{len(examples) - len(dropped):,} of {len(examples):,}")]
    if rows:
        lengths = [len(row.ids) for row in rows]
        total, trained = sum(lengths), sum(int(row.trained.sum()) for row in rows)
        counts = [renderer.count(row) for row in rows]
        expected = 0 if renderer.facts.bos_id is None else 1
        facts += [
            ("rows", f"{len(rows):,}, median {median(lengths):,.0f}, longest {max(lengths):,} of "
             f"{renderer.max_tokens:,} tokens"),
            ("trained tokens", f"{trained:,} of {total:,} ({trained / total:.0%})"),
            ("rows with another number of BOS",
             f"{sum(num_bos != expected for num_bos, _ in counts):,}"),
            ("rows without a trained end", f"{sum(not ends for _, ends in counts):,}"),
        ]  # fmt: skip
    problems = []
    if dropped:
        named = [str(one) for one in dropped[:_MOST_NAMED]]
        more = [f"and {len(dropped) - len(named):,} more"] if len(dropped) > len(named) else []
        heading = f"{len(dropped):,} of {len(examples):,} examples would be dropped:"
        problems.append("\n  ".join([heading, *named, *more]))
    return facts, problems
