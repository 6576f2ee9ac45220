"""Data ready to train on: read, checked, and divided into three parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.dataset import Loaded, ensure_usable, load_examples
from kamerton.data.examples import Example
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.rows import ReportBytes
from kamerton.data.settings import DataSettings
from kamerton.data.split import split

__all__ = ["Prepared", "divide", "load_holdout", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data ready to train on.

    Attributes:
        loaded: The data set to learn from, whole.
        loaded_holdout: The holdout's own file, if it has one.
        train: Examples to learn from.
        holdout: Examples kept aside for training to measure on.
        loaded_test: The test set's own file, if it has one.
        test: Examples kept aside for `kamerton evaluate` alone.
    """

    loaded: Loaded
    loaded_holdout: Loaded | None
    train: Sequence[Example]
    holdout: Sequence[Example]
    loaded_test: Loaded | None = None
    test: Sequence[Example] = ()


def load_holdout(
    settings: DataSettings,
    source: str,
    *,
    redactor: Redactor | None = None,
    report: ReportBytes | None = None,
) -> Loaded:
    """Read a file of its own that holds what is kept aside.

    Args:
        settings: Settings of the training data.
        source: Named by `settings.holdout` or `settings.test`.
        redactor: That of the training data, so that placeholders agree.
        report: Called with the progress of reading, in bytes.

    Returns:
        Examples and rejections.

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If an optional package is needed.
    """
    # A holdout file has no splits to choose from: `data.split` is about the training file.
    whole = settings.model_copy(update={"split": ""})
    return load_examples(whole, source=source, redactor=redactor, report=report)


def prepare(settings: DataSettings, *, report: ReportBytes | None = None) -> Prepared:
    """Read, check and split the data of a recipe.

    Args:
        settings: The recipe's data section.
        report: Called with the progress of reading, in bytes.

    Returns:
        Examples to learn from and to measure with.

    Raises:
        DataError: If the data cannot be read or too much of it cannot be used.
        MissingExtraError: If an optional package is needed.
    """
    redactor = Redactor() if settings.redact else None
    loaded = load_examples(settings, redactor=redactor, report=report)
    ensure_usable(loaded, settings.max_unusable)

    def aside(source: str) -> Loaded:
        held = load_holdout(settings, source, redactor=redactor, report=report)
        ensure_usable(held, settings.max_unusable)
        if type(held.examples[0]) is not type(loaded.examples[0]):
            raise DataError(
                translated(
                    "{source} holds {format} rows, {other} holds {other_format} rows",
                    source=held.source,
                    format=held.schema.format,
                    other=loaded.source,
                    other_format=loaded.schema.format,
                ),
                hint=translated(
                    "both must be of one kind; data.format and data.columns apply to both"
                ),
            )
        return held

    loaded_holdout = aside(settings.holdout) if isinstance(settings.holdout, str) else None
    loaded_test = aside(settings.test) if isinstance(settings.test, str) else None
    train, holdout, test = divide(loaded.examples, settings)
    if len(loaded.examples) == 1 and (holdout or test):
        notice = "there is one text: its end is held out"
        loaded = replace(loaded, notices=(*loaded.notices, notice))
    return Prepared(
        loaded,
        loaded_holdout,
        train,
        holdout if loaded_holdout is None else loaded_holdout.examples,
        loaded_test,
        test if loaded_test is None else loaded_test.examples,
    )


def divide(
    examples: Sequence[Example], settings: DataSettings
) -> tuple[Sequence[Example], Sequence[Example], Sequence[Example]]:
    """Cut off what is kept aside: first the test set, then the holdout.

    Args:
        examples: All of the training file.
        settings: Give both shares; what has a file of its own is not cut off.

    Returns:
        To learn from, the holdout and the test set.
    """
    holdout: Sequence[Example] = ()
    test: Sequence[Example] = ()
    if not isinstance(settings.test, str) and settings.test:
        examples, test = split(examples, settings.test, settings.seed, "test")
    if not isinstance(settings.holdout, str):
        examples, holdout = split(examples, settings.holdout, settings.seed)
    return examples, holdout, test
