"""Who may use a variant: one that was made for a customer never answers another customer."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller
from kamerton.core.settings import Settings

__all__ = ["AudienceSettings", "shared_audience"]


class AudienceSettings(Settings):
    """Who may use the variant; everybody where nothing is named.

    The content hash leaves it out: it does not change what the variant answers.
    """

    tenants: tuple[str, ...] = Field(default=(), max_length=1000)
    """Customers that may use it. A request says its customer by its API key (`tenant` in
    `--keys`), or, where the key has none, by the header `x-kamerton-tenant`."""
    keys: tuple[str, ...] = Field(default=(), max_length=1000)
    """Names of API keys that may use it."""

    @property
    def is_open(self) -> bool:
        """Whether everybody may use it."""
        return not (self.tenants or self.keys)

    def admits(self, caller: Caller) -> bool:
        """Tell whether a caller may use the variant.

        Args:
            caller: Who asks.

        Returns:
            Whether the customer or the key is named, or everybody may.
        """
        return self.is_open or caller.tenant in self.tenants or caller.key in self.keys

    def covers(self, tenants: Sequence[str], keys: Sequence[str]) -> bool:
        """Tell whether everybody whom a rule is for may use the variant.

        Args:
            tenants: Customers whom the rule is for; empty where it names none.
            keys: Names of keys likewise.

        Returns:
            Whether they may.
        """
        return (
            self.is_open
            or (bool(tenants) and set(tenants) <= set(self.tenants))
            or (bool(keys) and set(keys) <= set(self.keys))
        )

    def narrowed(self, other: Self) -> Self:
        """Give those who belong to both.

        Args:
            other: Another audience.

        Returns:
            Their intersection.

        Raises:
            SettingsError: If nobody belongs to both.
        """
        if self.is_open or other.is_open:
            return other if self.is_open else self
        found = type(self)(
            tenants=tuple(one for one in self.tenants if one in other.tenants),
            keys=tuple(one for one in self.keys if one in other.keys),
        )
        if found.is_open:
            raise SettingsError(
                "the variants are for different customers, and nobody may use both",
                hint="what was made for one customer cannot become a part of another's variant",
            )
        return found


def shared_audience(audiences: Sequence[AudienceSettings]) -> AudienceSettings:
    """Say who may use what is made from several variants.

    Args:
        audiences: Of the variants.

    Returns:
        Those who may use all of them.

    Raises:
        SettingsError: If nobody may.
    """
    found = AudienceSettings()
    for one in audiences:
        found = found.narrowed(one)
    return found
