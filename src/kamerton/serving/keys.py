"""Who may ask: keys, each with a name, what it is for and how often it may be used.

No key is kept, only its SHA-256; `hash_key` makes one.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller
from kamerton.core.settings import Settings, read_toml
from kamerton.serving.errors import ApiError

__all__ = ["ApiKey", "Keys", "KeysFile", "Scope", "hash_key", "plain_keys", "read_keys"]

Scope = Literal["use", "rate", "admin"]


class ApiKey(Settings):
    """A key, as a file of keys has it."""

    name: str = Field(min_length=1, max_length=100)
    """Stands in the access log."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hash of the key, as `kamerton serve --hash-key` prints it."""
    scopes: tuple[Scope, ...] = ("use",)
    """What it is for: "use" asks for answers, "rate" judges them, "admin" loads and unloads."""
    tenant: str = Field(default="", max_length=100)
    """The customer whose key it is. Requests with it cannot say another one; without it they may
    say any, by the header `x-kamerton-tenant`."""
    per_minute: int | None = Field(default=None, ge=1)
    """Most requests per minute; any number where it is not given."""


class KeysFile(Settings):
    """A file of keys."""

    key: tuple[ApiKey, ...] = Field(min_length=1)
    """One table `[[key]]` for each."""


def hash_key(key: str) -> str:
    """Hash a key: the gateway keeps no key itself.

    Args:
        key: As clients send it.

    Returns:
        SHA-256 in hex.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(place: Path) -> tuple[ApiKey, ...]:
    """Read a file of keys.

    Args:
        place: TOML with a table `[[key]]` for each key.

    Returns:
        The keys.

    Raises:
        SettingsError: If the file cannot be read, is wrong, or has a name or a hash twice.
    """
    keys = KeysFile.parse(read_toml(place), source=str(place)).key
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise SettingsError(f"{place}: {what} must differ between keys, got twice: {twice[0]}")
    return keys


def plain_keys(keys: Sequence[str], scope: Scope = "use") -> tuple[ApiKey, ...]:
    """Make keys that have no file.

    Args:
        keys: As clients send them.
        scope: What they are for.

    Returns:
        Keys with a number for a name and no limit; whoever may ask may judge the answers too.
    """
    scopes: tuple[Scope, ...] = ("use", "rate") if scope == "use" else (scope,)
    return tuple(
        ApiKey(name=f"key {number}", sha256=hash_key(key), scopes=scopes)
        for number, key in enumerate(dict.fromkeys(keys), 1)
    )


class Keys:
    """Checks keys and counts their requests.

    Args:
        keys: Those that are let in; without any, everybody is let in.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, keys: Sequence[ApiKey] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys, self._clock = tuple(keys), clock
        # Requests that each may make now: they come back evenly, up to a minute's worth.
        self._left = {key.name: float(key.per_minute or 0) for key in keys}
        self._counted_at = dict.fromkeys(self._left, clock())

    @property
    def are_needed(self) -> bool:
        """Whether only those with a key are let in."""
        return bool(self._keys)

    def check(self, authorization: str, scope: Scope | None) -> str:
        """Let a request in.

        Args:
            authorization: The header, "Bearer KEY".
            scope: What the request is for; None is open to every key, and not counted.

        Returns:
            Name of the key; empty where none is needed.

        Raises:
            ApiError: If the key is unknown, not for this, or was used too often.
        """
        if not self._keys:
            return ""
        scheme, _, given = authorization.partition(" ")
        digest = hash_key(given.strip())
        # Every key is compared, so that the time tells nothing.
        found = [key for key in self._keys if hmac.compare_digest(digest, key.sha256)]
        if scheme.lower() != "bearer" or not found:
            raise ApiError(
                401,
                "a key is needed: send it as 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        key = found[0]
        if scope is not None:
            if scope not in key.scopes:
                raise ApiError(403, f"this key is not for this: it needs the scope '{scope}'")
            if key.per_minute is not None:
                self._count(key.name, key.per_minute)
        return key.name

    def named(self, caller: Caller, name: str) -> Caller:
        """Add to a caller what its key says.

        Args:
            caller: What the headers say.
            name: Name of the key, as `check` gave it.

        Returns:
            The caller with the key and its customer.

        Raises:
            ApiError: If the headers name another customer than the key.
        """
        tenant = next((key.tenant for key in self._keys if key.name == name), "")
        if tenant and caller.tenant not in ("", tenant):
            raise ApiError(403, "this key is another customer's than x-kamerton-tenant says")
        return replace(caller, key=name, tenant=tenant or caller.tenant)

    def _count(self, name: str, per_minute: int) -> None:
        now = self._clock()
        back = (now - self._counted_at[name]) * per_minute / 60
        self._left[name] = min(self._left[name] + back, per_minute)
        self._counted_at[name] = now
        if self._left[name] < 1:
            wait_s = math.ceil((1 - self._left[name]) * 60 / per_minute)
            raise ApiError(
                429,
                f"this key may make {per_minute} requests per minute",
                headers={"Retry-After": str(wait_s)},
            )
        self._left[name] -= 1
