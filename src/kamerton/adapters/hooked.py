"""What adapters share that change modules' outputs by hooks: switching off, and no merging."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from kamerton.core.errors import AdapterError

__all__ = ["Hooked", "Switch"]


class Switch(Protocol):
    """A part that can be switched off.

    Attributes:
        enabled: Whether it does anything.
    """

    enabled: bool


class Hooked(ABC):
    """An adapter whose parts stand beside the base's modules and replace none."""

    @abstractmethod
    def switches(self) -> Sequence[Switch]:
        """List the parts.

        Returns:
            All of them.
        """

    def train(self, mode: bool) -> None:
        """Do nothing: there is no dropout.

        Args:
            mode: Ignored.
        """
        del mode

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer as the base alone for a while.

        Yields:
            Nothing.
        """
        before = [(part, part.enabled) for part in self.switches()]
        for part, _ in before:
            part.enabled = False
        try:
            yield
        finally:
            for part, enabled in before:
                part.enabled = enabled

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Do as `disabled` does: the model itself was never changed.

        Returns:
            A context.
        """
        return self.disabled()

    def merge(self) -> None:
        """Refuse: what is not linear cannot be folded into weights.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError("adapter: bottlenecks are not linear and cannot be merged")
