"""Several adapters over one base, of which exactly one is on: a policy, its critic, its judges."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from torch import nn

from kamerton.adapters.adapter import Adapter, Paced

__all__ = ["ActorCritic", "AdapterSwitcher"]

_CRITIC = "critic."
_Adapter = TypeVar("_Adapter", bound=Adapter)


class AdapterSwitcher:
    """Keeps adapters off the base until they are wanted; the weights of the base exist once.

    Args:
        home: The adapter that is on when no other is wanted.
    """

    def __init__(self, home: Adapter) -> None:
        self._on = home
        self._away: dict[int, ExitStack] = {}

    def admit(self, make: Callable[[], _Adapter]) -> _Adapter:
        """Attach one more adapter, and put it aside.

        Args:
            make: Attaches it to the base, which is bare meanwhile.

        Returns:
            The adapter.
        """
        with _aside(self._on):
            adapter = make()
            self._away[id(adapter)] = _aside(adapter)
        return adapter

    def bare(self) -> AbstractContextManager[None]:
        """Have the base alone for a while.

        Returns:
            A context.
        """
        return self._on.disabled()

    @contextmanager
    def using(self, adapter: Adapter) -> Iterator[None]:
        """Have another adapter on for a while, in the place of the one that is on.

        Args:
            adapter: The adapter that `admit` returned.

        Yields:
            Nothing.
        """
        assert id(adapter) in self._away, "an adapter can only come when it is away"
        before = self._on
        with _aside(before):
            self._away.pop(id(adapter)).close()
            self._on = adapter
            try:
                yield
            finally:
                self._on = before
                self._away[id(adapter)] = _aside(adapter)


def _aside(adapter: Adapter) -> ExitStack:
    """Take an adapter off until the stack is closed."""
    stack = ExitStack()
    stack.enter_context(adapter.disabled())
    stack.enter_context(adapter.as_plain_model())
    return stack


class ActorCritic:
    """A policy and the value model that learns beside it, as one adapter for the optimiser.

    All but the list of tensors is the policy's: the critic is not stored.

    Args:
        actor: The policy, at home.
        critic: The critic, which is put aside.
    """

    def __init__(self, actor: Adapter, critic: Adapter) -> None:
        self.capabilities = actor.capabilities
        self._actor, self._critic = actor, critic

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the policy's tensors, then the critic's.

        Returns:
            fp32 tensors by name; the critic's begin with "critic.".
        """
        critic = {f"{_CRITIC}{name}": p for name, p in self._critic.parameters().items()}
        return {**self._actor.parameters(), **critic}

    def rate_factor(self, name: str) -> float:
        """Ask the policy or the critic.

        Args:
            name: The tensor's name.

        Returns:
            Factor on the learning rate.
        """
        owner = self._critic if name.startswith(_CRITIC) else self._actor
        return owner.rate_factor(name.removeprefix(_CRITIC)) if isinstance(owner, Paced) else 1.0

    def train(self, mode: bool) -> None:
        """Switch dropout of both.

        Args:
            mode: True while training.
        """
        self._actor.train(mode)
        self._critic.train(mode)

    def disabled(self) -> AbstractContextManager[None]:
        """Answer as the base alone for a while.

        Returns:
            A context.
        """
        return self._actor.disabled()

    def detach(self) -> None:
        """Take the policy off; the critic is."""
        self._actor.detach()

    def merge(self) -> None:
        """Fold the policy into the base's weights."""
        self._actor.merge()

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Show the model without the policy's modules for a while.

        Returns:
            A context.
        """
        return self._actor.as_plain_model()

    def files(self) -> dict[str, bytes]:
        """Write the policy's files.

        Returns:
            The tensors by name.
        """
        return dict(self._actor.files())
