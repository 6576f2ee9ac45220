"""Every error that Kamerton raises on purpose.

KamertonError
├── SettingsError          a recipe or an option is wrong (all problems together)
├── MissingExtraError      an optional dependency is not installed
├── DataError              examples cannot be read or used
│   └── RenderingError     an example cannot be turned into tokens and a mask
├── ModelError             a base cannot be loaded or used
├── AdapterError           an adapter does not fit its base
├── VariantError           a variant folder is missing, damaged or made for another base
├── StoreError             the database cannot be opened or migrated
├── TrainingError          a run cannot start or go on
│   ├── NotFiniteError     a loss or a gradient is NaN or infinite
│   └── InterruptedRun     the user stopped the run; its state is saved
└── EvaluationError        variants cannot be compared

A user's mistake is one of these, with a hint. A programmer's mistake is an `assert`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "AdapterError",
    "DataError",
    "EvaluationError",
    "InterruptedRun",
    "KamertonError",
    "MissingExtraError",
    "ModelError",
    "NotFiniteError",
    "RenderingError",
    "SettingsError",
    "StoreError",
    "TrainingError",
    "VariantError",
]


class KamertonError(Exception):
    """Something the user can mend.

    Args:
        message: What must hold and what was found.
        hint: Advice, one sentence; printed on a line of its own.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross from one process to another, and some are made from other arguments.
        return type(self).__new__, (type(self), self.message), self.__dict__


class SettingsError(KamertonError):
    """A recipe or an option is wrong.

    Args:
        problems: One line per problem, each with its place.
        hint: Advice.
    """

    code = "settings"
    exit_status = 2

    def __init__(self, problems: Sequence[str] | str, *, hint: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class MissingExtraError(KamertonError):
    """An optional dependency is not installed.

    Args:
        package: The module that could not be imported.
        extra: The extra of Kamerton that brings it.
        purpose: What needs it, as the object of "needed for".
    """

    code = "missing-extra"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{package} is needed for {purpose} but is not installed",
            hint=f"pip install 'kamerton[{extra}]'",
        )
        self.extra = extra


class DataError(KamertonError):
    """Examples cannot be read or used."""

    code = "data"


class RenderingError(DataError):
    """An example cannot be turned into tokens and a loss mask."""

    code = "rendering"


class ModelError(KamertonError):
    """A base cannot be loaded or used."""

    code = "model"


class AdapterError(KamertonError):
    """An adapter does not fit its base."""

    code = "adapter"


class VariantError(KamertonError):
    """A variant folder is missing, damaged or made for another base."""

    code = "variant"


class StoreError(KamertonError):
    """The database cannot be opened or migrated."""

    code = "store"


class TrainingError(KamertonError):
    """A run cannot start or go on."""

    code = "training"


class NotFiniteError(TrainingError):
    """A loss or a gradient is NaN or infinite."""

    code = "not-finite"


class InterruptedRun(TrainingError):
    """The user stopped the run; its state is saved."""

    code = "interrupted"
    exit_status = 130


class EvaluationError(KamertonError):
    """Variants cannot be compared."""

    code = "evaluation"
