"""The variants that an engine holds: they come and go, and a request keeps the one it began with.

A variant is known by its content hash. One that was released goes when its last request has ended.
Above a limit of memory, those that nobody uses go to disk, the longest unused first, and come back
when they are asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from kamerton.core.errors import AdapterError, ModelError, VariantError
from kamerton.core.requests import HeldVariant, ServedModel
from kamerton.data.rendering.renderer import Renderer
from kamerton.prompting.prompt import Prompt

__all__ = ["HeldVariants", "LoadedVariant", "VariantSource"]


@dataclass(frozen=True, eq=False)
class LoadedVariant:
    """A variant that requests can name.

    Attributes:
        model: What clients are told of it.
        renderer: Turns its chats into tokens.
        prompt: System text and demonstrations put before every chat.
        adapter: Which adapter of the base's set its tokens go through; -1 for the base alone.
    """

    model: ServedModel
    renderer: Renderer
    prompt: Prompt
    adapter: int = -1


class VariantSource(Protocol):
    """Puts variants on the base and takes them off."""

    def open(self, place: str, content_hash: str = "") -> LoadedVariant:
        """Put a variant on the base, or raise a `KamertonError` and leave the base as it was."""
        ...

    def close(self, variant: LoadedVariant) -> None:
        """Take a variant off the base."""
        ...


class HeldVariants:
    """What requests can name.

    Args:
        variants: Those that are there from the start.
        users: Tells the variant of every request, one entry a request.
        source: Opens more; None where nothing comes or goes.
        limit_bytes: Most memory of adapters; more is taken only while requests need it. None sets
            no limit.
    """

    def __init__(
        self,
        variants: Iterable[LoadedVariant],
        users: Callable[[], Iterable[LoadedVariant]],
        source: VariantSource | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        self._users, self._source, self._limit_bytes = users, source, limit_bytes
        # The longest unused is the first.
        self._resident: dict[str, LoadedVariant] = {}
        self._on_disk: dict[str, ServedModel] = {}
        self._leaving: list[LoadedVariant] = []
        self._named: dict[str, ServedModel] = {}
        for variant in variants:
            self._take_in(variant)

    @property
    def models(self) -> list[ServedModel]:
        """What can be asked for, under the names of their folders; every version is listed."""
        named = list(self._named.values())
        known = {model.content_hash for model in named}
        held = [*(variant.model for variant in self._resident.values()), *self._on_disk.values()]
        return named + [model for model in held if model.content_hash not in known]

    @property
    def num_bytes(self) -> int:
        """Memory that the adapters take."""
        resident = [*self._resident.values(), *self._leaving]
        return sum(variant.model.num_bytes for variant in resident)

    def find(self, name: str, artefact: str = "") -> LoadedVariant:
        """Give the variant that is to answer a request; read it from disk if it is only there.

        Args:
            name: What the client calls it.
            artefact: The content hash that the name meant then; empty for what it means here.

        Returns:
            The variant.

        Raises:
            ModelError: If it is not held.
            KamertonError: If it cannot be read from disk any more.
        """
        named = self._named.get(name)
        key = artefact or (named.content_hash if named else "")
        if key in self._on_disk:
            self.load(self._on_disk[key].place, key)
        if key not in self._resident:
            raise ModelError(f"the model '{name}' is not served")
        # To the end: it was used last.
        variant = self._resident[key] = self._resident.pop(key)
        return variant

    def load(self, place: str, content_hash: str = "") -> ServedModel:
        """Hold one more variant.

        Args:
            place: Its folder.
            content_hash: What must be there; empty for whatever is there.

        Returns:
            What it is, under the name that it has there.

        Raises:
            KamertonError: If it cannot be served; then everything is as it was.
        """
        if self._source is None:
            raise VariantError("this engine loads no further variants")
        variant = self._source.open(place, content_hash)
        self._take_in(variant)
        return variant.model

    def release(self, content_hash: str) -> None:
        """Let a variant go when its last request has ended; new ones cannot ask for it.

        Args:
            content_hash: Which; an unknown one does no harm.
        """
        self._named = {n: m for n, m in self._named.items() if m.content_hash != content_hash}
        self._on_disk.pop(content_hash, None)
        if (variant := self._resident.pop(content_hash, None)) is not None:
            self._leaving.append(variant)
        self.settle()

    def settle(self) -> None:
        """Let go what nobody uses: variants that were released, and what is above the limit."""
        if not self._leaving and self._limit_bytes is None:
            return
        used = set(self._users())
        for variant in [one for one in self._leaving if one not in used]:
            self._leaving.remove(variant)
            self._close(variant)
        if self._limit_bytes is None or self._source is None:
            return
        # The last one was just asked for, and its request may not be counted yet.
        for key, variant in list(self._resident.items())[:-1]:
            if self.num_bytes <= self._limit_bytes:
                return
            if variant.model.num_bytes and variant not in used:
                self._on_disk[key] = self._resident.pop(key).model
                self._close(variant)

    def describe(self) -> tuple[HeldVariant, ...]:
        """Say what is held.

        Returns:
            The longest unused first, then what is on disk, then what is leaving.
        """
        users = Counter(self._users())
        resident = [(v.model, True, users[v], False) for v in self._resident.values()]
        on_disk = [(model, False, 0, False) for model in self._on_disk.values()]
        leaving = [(v.model, True, users[v], True) for v in self._leaving]
        return tuple(
            HeldVariant(model.content_hash, model.num_bytes, is_resident, num, is_leaving)
            for model, is_resident, num, is_leaving in (*resident, *on_disk, *leaving)
        )

    def _take_in(self, variant: LoadedVariant) -> None:
        """Hold a variant that was opened."""
        model, limit = variant.model, self._limit_bytes
        if limit is not None and model.num_bytes > limit:
            self._close(variant)
            raise AdapterError(
                f"{model.name} takes {model.num_bytes / 2**20:,.1f} MiB, and adapters may take "
                f"{limit / 2**20:,.1f} MiB together",
                hint="start the server with a larger --memory-mib",
            )
        key = model.content_hash
        back = next((one for one in self._leaving if one.model.content_hash == key), None)
        if back is not None:
            self._leaving.remove(back)
            self._resident[key] = back
        if key in self._resident:
            # The same content is the same variant: one copy of it serves all names.
            self._close(variant)
            variant = self._resident.pop(key)
        self._on_disk.pop(key, None)
        self._resident[key] = variant
        self._named[model.name] = model
        self.settle()

    def _close(self, variant: LoadedVariant) -> None:
        if self._source is not None:
            self._source.close(variant)
