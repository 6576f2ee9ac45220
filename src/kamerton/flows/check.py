"""`kamerton check`: audit examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.data.audit.audit import Audit, audit
from kamerton.data.dataset import Loaded, load_examples
from kamerton.data.examples import Example
from kamerton.data.prepared import divide, load_holdout
from kamerton.data.settings import DataSettings

__all__ = ["Checked", "check_data"]


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
        settings: The data's settings; a held-out part is split off to look for leakage.
        sink: Receives progress.

    Returns:
        The findings.

    Raises:
        DataError: If it cannot be read at all.
    """

    def reading(done: int, total: int | None) -> None:
        sink(Progress(translated("reading"), done, total, "bytes"))

    def examining(task: str, done: int, total: int) -> None:
        sink(Progress(task, done, total, "examples"))

    loaded = load_examples(settings, report=reading)
    train, *parts = divide(loaded.examples, settings)
    files = [name for name in (settings.holdout, settings.test) if isinstance(name, str)]
    parts += [load_holdout(settings, name, report=reading).examples for name in files]
    # Mostly there is one: several are put together in memory.
    filled = [part for part in parts if part]
    aside = filled[0] if len(filled) == 1 else [example for part in filled for example in part]
    found = audit(loaded, aside or None, train=train, report=examining)
    return Checked(loaded, found, train)
