"""What the names that clients ask for mean: each points to versions, known by content hash."""

from collections.abc import Collection, Iterable

from kamerton.core.requests import ServedModel

__all__ = ["Names"]


class Names:
    """Names and the versions that they point to.

    Args:
        models: What is served from the start.
        num_kept: Most versions of a name that are kept, the current one included.

    Attributes:
        models: What each name means now. The dictionary stays the same while its entries change.
    """

    def __init__(self, models: Iterable[ServedModel] = (), num_kept: int = 2) -> None:
        self.models: dict[str, ServedModel] = {}
        self._versions: dict[str, list[ServedModel]] = {}
        self._num_kept = num_kept
        for model in models:
            self.point(model)

    @property
    def all_versions(self) -> list[ServedModel]:
        """All versions of all names, under these names."""
        return [model for versions in self._versions.values() for model in versions]

    def versions(self, name: str) -> tuple[ServedModel, ...]:
        """List the versions of a name.

        Args:
            name: The name.

        Returns:
            The current one last; empty for an unknown name.
        """
        return tuple(self._versions.get(name, ()))

    def find(self, content_hash: str) -> ServedModel | None:
        """Find a version by its content hash, whatever its name.

        Args:
            content_hash: Which; the beginning is enough where only one version has it.

        Returns:
            The version; None where there is none, or several begin like this.
        """
        found = {m.content_hash: m for m in self.all_versions}
        alike = [key for key in found if key.startswith(content_hash)]
        return found[alike[0]] if content_hash and len(alike) == 1 else None

    def point(self, model: ServedModel) -> list[str]:
        """Let a name mean a version from now on.

        Args:
            model: The version, under that name.

        Returns:
            Content hashes that no name has any more.
        """
        versions = [
            one
            for one in self._versions.get(model.name, [])
            if one.content_hash != model.content_hash
        ]
        versions.append(model)
        dropped, kept = versions[: -self._num_kept], versions[-self._num_kept :]
        self._versions[model.name], self.models[model.name] = kept, model
        return self._unnamed(dropped)

    def drop(self, name: str) -> list[str]:
        """Forget a name.

        Args:
            name: The name.

        Returns:
            Content hashes that no name has any more.
        """
        del self.models[name]
        return self._unnamed(self._versions.pop(name))

    def keep_only(self, content_hashes: Collection[str]) -> None:
        """Forget versions that are there no more, and names whose current version is.

        Args:
            content_hashes: What is there.
        """
        for name, model in list(self.models.items()):
            if model.content_hash in content_hashes:
                versions = self._versions[name]
                self._versions[name] = [v for v in versions if v.content_hash in content_hashes]
            else:
                # An earlier version under this name would be the wrong weights.
                self.drop(name)

    def _unnamed(self, dropped: Iterable[ServedModel]) -> list[str]:
        named = {model.content_hash for model in self.all_versions}
        return [one.content_hash for one in dropped if one.content_hash not in named]
