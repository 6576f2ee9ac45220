"""`kamerton check`: audit examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.core.events import Progress, Sink
from kamerton.data.audit.audit import Audit, audit
from kamerton.data.dataset import Loaded, load_examples, load_holdout
from kamerton.data.examples import Example
from kamerton.data.settings import DataSettings
from kamerton.data.split import split

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
