"""What a gateway before other engines serves now, while variants come and go."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kamerton.core.requests import HeldVariant, ServedModel
from kamerton.serving.names import Names
from kamerton.serving.upstream_models import UpstreamModel

__all__ = ["HeldUpstream"]


class HeldUpstream:
    """Models by content hash; an engine's own without one by name.

    Attributes:
        names: What clients may ask for.
    """

    def __init__(self) -> None:
        self.names = Names()
        self._models: dict[str, UpstreamModel] = {}
        self._num_open: dict[str, int] = {}
        self._leaving: set[str] = set()

    @property
    def models(self) -> list[UpstreamModel]:
        """All that is held."""
        return list(self._models.values())

    def add(self, model: UpstreamModel) -> None:
        """Hold a model, which no name means yet.

        Args:
            model: The model; one that was leaving stays.
        """
        key = _key(model.served)
        self._models[key] = model
        self._leaving.discard(key)

    def point(self, models: Iterable[UpstreamModel]) -> None:
        """Hold models under their own names.

        Args:
            models: The models.
        """
        for model in models:
            self.add(model)
            self.names.point(model.served)

    def find(self, name: str, artefact: str = "") -> UpstreamModel | None:
        """Find what a request asks for.

        Args:
            name: As the client wrote it.
            artefact: Content hash that it meant when the request came; empty where none is known.

        Returns:
            The model; None where it is not held.
        """
        if artefact in self._models:
            return self._models[artefact]
        current = self.names.models.get(name)
        return None if current is None or artefact else self._models.get(_key(current))

    @contextmanager
    def used(
        self, model: UpstreamModel, leave: Callable[[UpstreamModel], object]
    ) -> Iterator[None]:
        """Count a request while it is open.

        Args:
            model: What answers it.
            leave: Called at the end of the last request for a model that is leaving.
        """
        key = _key(model.served)
        self._num_open[key] = self._num_open.get(key, 0) + 1
        try:
            yield
        finally:
            self._num_open[key] -= 1
            if not self._num_open[key]:
                del self._num_open[key]
                if key in self._leaving:
                    leave(self.drop(key))

    def leave(self, content_hash: str) -> UpstreamModel | None:
        """Let a model go as soon as no request uses it.

        Args:
            content_hash: Which; an unknown one does no harm.

        Returns:
            The model where that is now.
        """
        if content_hash not in self._models:
            return None
        if content_hash in self._num_open:
            self._leaving.add(content_hash)
            return None
        return self.drop(content_hash)

    def drop(self, content_hash: str) -> UpstreamModel:
        """Forget a model.

        Args:
            content_hash: Which.

        Returns:
            The model.
        """
        self._leaving.discard(content_hash)
        return self._models.pop(content_hash)

    def describe(self) -> tuple[HeldVariant, ...]:
        """Say what is held; nobody knows how many bytes it takes in the engines.

        Returns:
            Every model that has a content hash.
        """
        return tuple(
            HeldVariant(key, 0, True, self._num_open.get(key, 0), key in self._leaving)
            for key, model in self._models.items()
            if model.served.content_hash
        )


def _key(model: ServedModel) -> str:
    # No content hash has a space.
    return model.content_hash or f"name {model.name}"
