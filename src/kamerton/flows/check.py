"""`kamerton check`: audit examples and show what would be trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.core.errors import DataError, RenderingError
from kamerton.core.events import Progress, Sink
from kamerton.data.audit import Audit, audit
from kamerton.data.dataset import Loaded, load_examples, load_holdout
from kamerton.data.examples import Example
from kamerton.data.rendered import RenderSettings
from kamerton.data.rendering import make_renderer
from kamerton.data.settings import DataSettings
from kamerton.data.split import split
from kamerton.data.tokens import Span

__all__ = ["Checked", "Shown", "check_data", "show_examples"]


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
    """

    loaded: Loaded
    audit: Audit


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
    return Checked(loaded, audit(loaded, holdout or None, train=train, report=examining))


def show_examples(
    loaded: Loaded, base: str, settings: RenderSettings, count: int
) -> tuple[list[tuple[str, str]], list[str], list[Shown]]:
    """Render the first examples as a base would see them.

    Args:
        loaded: The data set.
        base: A folder, Hub id or builtin; only its tokenizer is read.
        settings: What is trained.
        count: How many examples.

    Returns:
        Facts about the rendering as name and value, notices, and the examples.

    Raises:
        DataError: If there is no example.
    """
    from kamerton.models.load import load_tokenizer

    if not loaded.examples:
        raise DataError(f"{loaded.source}: there is no usable example to show")
    tokenizer, vocab_size = load_tokenizer(base)
    renderer = make_renderer(tokenizer, settings, vocab_size=vocab_size)
    shown = []
    for example in loaded.examples[:count]:
        try:
            row = renderer.render(example)
        except RenderingError as error:
            shown.append(Shown(str(example.place), problem=error.message))
            continue
        num_bos, num_ends = renderer.count(row)
        shown.append(
            Shown(
                place=str(example.place),
                spans=tuple(renderer.show(row)),
                num_tokens=len(row.ids),
                num_trained=int(row.trained.sum()),
                num_bos=num_bos,
                num_ends=num_ends,
            )
        )
    return renderer.facts.lines(), list(renderer.facts.notices), shown
