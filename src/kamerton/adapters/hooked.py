"""Adapters that change modules' outputs by hooks: switching off, and no merging."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from kamerton.adapters.switches import Switch, switched_off
from kamerton.core.errors import AdapterError

__all__ = ["Hooked"]


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

    def disabled(self) -> AbstractContextManager[None]:
        """Answer as the base alone for a while.

        Returns:
            A context.
        """
        return switched_off(self.switches())

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Do as `disabled` does: the model itself was never changed.

        Returns:
            A context.
        """
        return self.disabled()

    def merge(self) -> None:
        """Refuse: what a hook does cannot be folded into weights.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError(
            "adapter: what changes the outputs of modules cannot be merged into weights"
        )
