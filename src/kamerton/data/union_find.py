"""Things that belong together because something links them: a union-find."""

from typing import Any, Generic, TypeVar

__all__ = ["UnionFind"]

_Key = TypeVar("_Key", bound=Any)


class UnionFind(Generic[_Key]):
    """UnionFind of keys that can be ordered; each is named by its least member."""

    def __init__(self) -> None:
        # Only keys that were joined to a lesser one stand here, so that loners cost nothing.
        self._parents: dict[_Key, _Key] = {}

    def name(self, key: _Key) -> _Key:
        """Name the cluster of a key.

        Args:
            key: Any, also one that was never joined.

        Returns:
            The least member of its cluster; itself when it is alone.
        """
        path = []
        while key in self._parents:
            path.append(key)
            key = self._parents[key]
        self._parents.update(dict.fromkeys(path, key))
        return key

    def join(self, first: _Key, second: _Key) -> None:
        """Put two keys into one cluster.

        Args:
            first: One.
            second: The other.
        """
        least, other = sorted((self.name(first), self.name(second)))
        if least != other:
            self._parents[other] = least

    def all(self) -> tuple[tuple[_Key, ...], ...]:
        """Give the clusters of two or more.

        Returns:
            Their members in order; the clusters by their least member.
        """
        members: dict[_Key, list[_Key]] = {}
        for key in list(self._parents):
            members.setdefault(self.name(key), []).append(key)
        return tuple(sorted((name, *sorted(others)) for name, others in members.items()))
