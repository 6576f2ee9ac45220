"""Rules of routing as a project writes them: `routes.toml`, and the experiments that it names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BeforeValidator, Field, field_validator, model_validator

from kamerton.core.errors import SettingsError
from kamerton.core.files import hash_json
from kamerton.core.requests import ServedModel
from kamerton.core.routing import Caller
from kamerton.core.settings import Settings, read_toml, suggestion
from kamerton.experiments.settings import ExperimentSettings, Name, UnitKind, read_experiment

__all__ = [
    "CanarySettings",
    "RampStep",
    "RouteSettings",
    "RoutesFile",
    "RuleSettings",
    "Rules",
    "check_rules",
    "read_rules",
]

EXPERIMENTS_FOLDER = "experiments"
"""Beside the file of routes: where experiments are declared."""

_Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
_VERSION_LETTERS = 16


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


@dataclass(frozen=True, slots=True)
class Rules:
    """Routes with the experiments that they name.

    Attributes:
        routes: By the name that clients ask for.
        experiments: By name.
        version: Hash of them all; empty without any.
    """

    routes: Mapping[str, RouteSettings] = field(default_factory=dict)
    experiments: Mapping[str, ExperimentSettings] = field(default_factory=dict)
    version: str = ""

    def leading_to(self, variant: str) -> list[str]:
        """List the routes that may choose a variant.

        Args:
            variant: Its name.

        Returns:
            Their names.
        """
        return [
            route
            for route in self.routes
            if any(name == variant for _, name in self.variants(route))
        ]

    def variants(self, route: str) -> Iterator[tuple[str, str]]:
        """List what a route may choose, its shadows included.

        Args:
            route: Its name.

        Yields:
            The rule that names it, and the variant.
        """
        found = self.routes[route]
        for name in found.shadow:
            yield "shadow", name
        for label, choice in found.choices:
            for name in self.chosen(found, choice):
                yield label, name

    def chosen(self, route: RouteSettings, choice: RuleSettings | RouteSettings) -> Iterator[str]:
        """List what one choice of a route may lead to.

        Args:
            route: The route.
            choice: One of its rules, or the route itself.

        Yields:
            Names of variants.
        """
        own = choice.variant if isinstance(choice, RuleSettings) else ""
        if not choice.experiment:
            yield own or route.default
        elif choice is route:
            yield route.default
        yield from choice.split
        if choice.canary:
            yield choice.canary.variant
        if choice.experiment:
            yield from (arm.variant for arm in self.experiments[choice.experiment].arms.values())


def read_rules(place: Path) -> Rules:
    """Read a file of routes, with the experiments in the folder `experiments` beside it.

    Args:
        place: The TOML file.

    Returns:
        The rules.

    Raises:
        SettingsError: If any of the files is missing or wrong; it lists every problem.
    """
    routes = RoutesFile.parse(read_toml(place), source=str(place)).route
    named = {
        choice.experiment for route in routes.values() for _, choice in route.choices
    } - {None}  # fmt: skip
    experiments, problems = {}, []
    for name in sorted(str(one) for one in named):
        try:
            experiments[name] = read_experiment(place.parent / EXPERIMENTS_FOLDER / f"{name}.toml")
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    plain = {
        "routes": {name: route.model_dump(mode="json") for name, route in routes.items()},
        "experiments": {name: one.registration for name, one in experiments.items()},
    }
    return Rules(routes, experiments, hash_json(plain)[:_VERSION_LETTERS])


def check_rules(rules: Rules, served: Mapping[str, ServedModel]) -> None:
    """Make sure that rules name what is there.

    Args:
        rules: The rules.
        served: What is served, by name.

    Raises:
        SettingsError: If a rule names an unknown variant or one that is not for all whom the rule
            is for, or if a route has the name of a variant; it lists every problem.
    """
    problems = [
        f"route.{route}: {label}: '{variant}' is not served{suggestion(variant, served, 5)}"
        for route in rules.routes
        for label, variant in rules.variants(route)
        if variant not in served
    ]
    problems += [
        f"route.{route}: a variant that is served has this name; a route needs one of its own"
        for route in rules.routes
        if route in served
    ]
    problems += [
        f"route.{route}: {label}: '{variant}' is not for everybody: the rule must name customers "
        f"or keys of its audience ({', '.join([*audience.tenants, *audience.keys])})"
        for route, found in rules.routes.items()
        for label, choice in found.choices
        for variant in rules.chosen(found, choice)
        if variant in served
        for audience in [served[variant].audience]
        if not audience.covers(*choice.whom)
    ]
    if problems:
        raise SettingsError(problems)
