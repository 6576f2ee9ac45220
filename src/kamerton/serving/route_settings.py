"""Routes as a project writes them: who gets which variant."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BeforeValidator, Field, field_validator, model_validator

from kamerton.core.routing import Caller
from kamerton.core.settings import Settings
from kamerton.experiments.settings import Name, UnitKind

__all__ = ["CanarySettings", "RampStep", "RouteSettings", "RoutesFile", "RuleSettings"]

_Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class RampStep(Settings):
    """A step of a canary's ramp."""

    at: AwareDatetime
    """Moment from which the share holds, with its zone: 2026-12-01T09:00:00Z."""
    share: float = Field(ge=0, le=1)
    """Share of units that get the new variant."""


class CanarySettings(Settings):
    """A new variant that a growing share of units gets."""

    variant: str = Field(min_length=1)
    """The new variant."""
    steps: tuple[RampStep, ...] = Field(min_length=1)
    """The ramp, in order of time; shares only grow, so that no unit goes back. To take it back,
    stop the canary or remove it."""

    @model_validator(mode="after")
    def _only_grows(self) -> Self:
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if after.at <= before.at or after.share < before.share:
                raise ValueError(
                    f"steps must follow in time and not shrink, found {before.share:g} at "
                    f"{before.at.isoformat()} before {after.share:g} at {after.at.isoformat()}"
                )
        return self

    def share(self, now: datetime) -> float:
        """Give the share of units that get the new variant.

        Args:
            now: When.

        Returns:
            0 before the first step.
        """
        return max((step.share for step in self.steps if step.at <= now), default=0.0)


class _Choice(Settings):
    """What a rule or a route does with whom it is for."""

    split: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)
    """Variants with weights; each unit keeps its variant."""
    canary: CanarySettings | None = None
    """A new variant for a growing share of units."""
    experiment: Name | None = None
    """An experiment that assigns units: the name of a file in `experiments/`, without ".toml"."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("split", "canary", "experiment") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"one of split, canary and experiment may be given, got {given}")
        return self


class RuleSettings(_Choice):
    """Who gets what; everything that is said of who must hold."""

    name: Name | None = None
    """Stands in records; "rule 1" for the first where it is not given."""
    key: _Texts = ()
    """Names of API keys, one of which must be the request's. One text or several."""
    tenant: _Texts = ()
    """Customers, one or several."""
    segment: _Texts = ()
    """Audience segments, one or several."""
    language: _Texts = ()
    """Languages such as "ru", one or several."""
    header: dict[str, _Texts] = Field(default_factory=dict)
    """Headers with the value, or one of the values, that they must have."""
    variant: str = ""
    """The variant that answers. Beside a split or a canary: what those get who have no unit, or
    are not yet in the ramp; the route's default where it is not given."""

    @field_validator("language")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for one in languages:
            if not re.fullmatch("[a-z]{2,3}", one):
                raise ValueError(f'must be a code such as "ru", got {one!r}')
        return languages

    @field_validator("header")
    @classmethod
    def _lower(cls, headers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if any(name.lower() == "authorization" for name in headers):
            raise ValueError("authorization cannot be compared here: name the key as `key`")
        return {name.lower(): values for name, values in headers.items()}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.key or self.tenant or self.segment or self.language or self.header):
            raise ValueError(
                "needs key, tenant, segment, language or header; who matches no rule gets the "
                "route's default"
            )
        if not (self.variant or self.split or self.canary or self.experiment):
            raise ValueError("needs variant, split, canary or experiment")
        return self

    @property
    def whom(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Customers and keys whom it is for; empty where it names none."""
        return self.tenant, self.key

    def mismatch(self, caller: Caller) -> str:
        """Say what a caller does not have.

        Args:
            caller: Who asks.

        Returns:
            The first condition that does not hold; empty where all hold.
        """
        for what in ("key", "tenant", "segment", "language"):
            wanted, found = getattr(self, what), getattr(caller, what)
            if wanted and found not in wanted:
                return f"{what} is {found or 'not said'}, not {' or '.join(wanted)}"
        for name, values in self.header.items():
            if (found := caller.headers.get(name, "")) not in values:
                return f"header {name} is {found or 'not sent'}, not {' or '.join(values)}"
        return ""


class RouteSettings(_Choice):
    """A name that clients ask for and that has no variant of its own."""

    default: str = Field(min_length=1)
    """The variant for whom no rule, split, canary or experiment has another."""
    rules: tuple[RuleSettings, ...] = ()
    """Rules in order; the first that matches decides."""
    unit: UnitKind = "unit"
    """What splits and canaries keep a variant for."""
    shadow: tuple[str, ...] = ()
    """Variants that get a copy of each request; clients never see their answers."""

    @field_validator("rules")
    @classmethod
    def _different_names(cls, rules: tuple[RuleSettings, ...]) -> tuple[RuleSettings, ...]:
        names = [rule.name for rule in rules if rule.name]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"names of rules must differ, found twice: {', '.join(twice)}")
        return rules

    @property
    def whom(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Customers and keys whom it is for: it is for everybody."""
        return (), ()

    @property
    def choices(self) -> Iterator[tuple[str, RuleSettings | Self]]:
        """All rules with their names, and the route itself as "default"."""
        for number, rule in enumerate(self.rules, 1):
            yield rule.name or f"rule {number}", rule
        yield "default", self


class RoutesFile(Settings):
    """A file of routes."""

    route: dict[Name, RouteSettings] = Field(min_length=1)
    """One table `[route.NAME]` for each."""
