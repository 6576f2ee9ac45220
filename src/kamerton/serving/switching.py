"""Loading, replacing and unloading variants while requests are answered.

The gateway decides what a name means, so a switch is a change of a pointer here. A request carries
the content hash that its name meant when it came, and the engine holds that version until the
request is over.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kamerton.core.errors import KamertonError
from kamerton.core.requests import HeldVariant, ServedModel
from kamerton.serving.errors import ApiError
from kamerton.serving.names import Names
from kamerton.serving.routes import Rules
from kamerton.serving.routing import Router
from kamerton.store.variants import MANIFEST_FILE, is_variant_name

__all__ = ["Switching", "SwitchingEngine"]


class SwitchingEngine(Protocol):
    """Holds variants that come and go."""

    @property
    def names(self) -> Names:
        """What names mean."""
        ...

    async def load(self, place: str, content_hash: str = "") -> ServedModel:
        """Hold one more variant, or raise a `KamertonError`."""
        ...

    async def release(self, content_hash: str) -> None:
        """Let a variant go when its last request has ended."""
        ...

    async def held(self) -> Sequence[HeldVariant]:
        """Say what is held."""
        ...


class Switching:
    """Changes what names mean, one change at a time.

    Args:
        engine: Holds the variants.
        folder: The project's variants; nothing outside is read.
        router: Its routes keep their names, and the variants that they lead to.
    """

    def __init__(self, engine: SwitchingEngine, folder: Path, router: Router | None = None) -> None:
        self._engine, self._names, self._folder = engine, engine.names, folder.resolve()
        self._router = router or Router(Rules())
        self._lock = asyncio.Lock()

    async def load(self, name: str, path: str, *, may_replace: bool) -> ServedModel:
        """Load a variant and let a name mean it.

        Args:
            name: What clients will ask for.
            path: Folder of the variant, relative to the project's variants or absolute.
            may_replace: Whether the name may have a version already.

        Returns:
            What the name means now.

        Raises:
            ApiError: If the name is taken, or the variant is nowhere or cannot be served.
        """
        self._check_name(name)
        place = self._inside(path)
        async with self._lock:
            if name in self._names.models and not may_replace:
                raise ApiError(
                    400,
                    f"'{name}' is loaded already: set load_inplace to replace it",
                    "lora_name",
                    kind="InvalidUserInput",
                )
            try:
                found = await self._engine.load(str(place))
            except KamertonError as error:
                hint = f" ({error.hint})" if error.hint else ""
                raise ApiError(400, f"{error.message}{hint}", kind="InvalidUserInput") from None
            return await self._point(replace(found, name=name))

    async def point(self, name: str, artefact: str) -> ServedModel:
        """Let a name, old or new, mean a version that is held already. Nothing is loaded.

        Args:
            name: What clients ask for.
            artefact: Content hash of the version, or its beginning.

        Returns:
            What the name means now.

        Raises:
            ApiError: If no such version is held.
        """
        self._check_name(name)
        async with self._lock:
            found = self._names.find(artefact)
            if found is None or found.kind == "base":
                raise ApiError(404, f"no version of a variant has the hash '{artefact}'")
            return await self._point(replace(found, name=name))

    async def roll_back(self, name: str) -> ServedModel:
        """Let a name mean the version that it meant before. Nothing is loaded.

        Args:
            name: The name.

        Returns:
            What the name means now.

        Raises:
            ApiError: If the name is unknown or has no earlier version.
        """
        async with self._lock:
            versions = self._versions(name)
            if len(versions) < 2:
                raise ApiError(409, f"'{name}' has no earlier version")
            return await self._point(versions[-2])

    async def unload(self, name: str) -> None:
        """Forget a name with all its versions; requests that were begun are still answered.

        Args:
            name: The name.

        Raises:
            ApiError: If it is unknown, the base, or what a route leads to.
        """
        async with self._lock:
            if self._versions(name)[-1].kind == "base":
                raise ApiError(400, f"'{name}' is the base, which cannot be unloaded")
            if routes := self._router.rules.leading_to(name):
                raise ApiError(409, f"routes lead to '{name}': {', '.join(routes)}", "lora_name")
            await self._release(self._names.drop(name))

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What each name means now."""
        return self._names.models

    def versions(self, name: str) -> tuple[ServedModel, ...]:
        """List the versions of a name.

        Args:
            name: The name.

        Returns:
            The current one last.
        """
        return self._names.versions(name)

    async def held(self) -> dict[str, HeldVariant]:
        """Ask the engine what it holds.

        Returns:
            By content hash.
        """
        return {one.content_hash: one for one in await self._engine.held()}

    async def _point(self, model: ServedModel) -> ServedModel:
        await self._release(self._names.point(model))
        return model

    async def _release(self, content_hashes: Sequence[str]) -> None:
        for content_hash in content_hashes:
            await self._engine.release(content_hash)

    def _versions(self, name: str) -> tuple[ServedModel, ...]:
        versions = self._names.versions(name)
        if not versions:
            raise ApiError(404, f"there is no model '{name}'", "lora_name")
        return versions

    def _check_name(self, name: str) -> None:
        if not is_variant_name(name):
            raise ApiError(
                400,
                "a name must begin with a letter or digit and have at most 100 letters, digits, "
                "'-', '_' and '.'",
                "lora_name",
            )
        found = self._names.models.get(name)
        if found is not None and found.kind == "base":
            raise ApiError(400, f"'{name}' is the base", "lora_name")
        if name in self._router.rules.routes:
            raise ApiError(400, f"'{name}' is a route", "lora_name")

    def _inside(self, path: str) -> Path:
        """The folder that a path names, which must be a variant of the project."""
        try:
            place = (self._folder / path).resolve()
        except (OSError, ValueError):
            place = self._folder
        if place == self._folder or not place.is_relative_to(self._folder):
            raise ApiError(
                400, "the path must lie in the project's folder of variants", "lora_path"
            )
        if not (place / MANIFEST_FILE).is_file():
            raise ApiError(404, f"there is no variant '{path}'", "lora_path")
        return place
