"""The rules that a router decides by: routes and the experiments that they name, checked."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.core.files import hash_json
from kamerton.core.requests import ServedModel
from kamerton.core.settings import read_toml, suggestion
from kamerton.experiments.settings import ExperimentSettings, read_experiment
from kamerton.serving.route_settings import RouteSettings, RoutesFile, RuleSettings

__all__ = ["Rules", "check_rules", "read_rules"]

EXPERIMENTS_FOLDER = "experiments"
"""Beside the file of routes: where experiments are declared."""

_VERSION_LETTERS = 16


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


def check_rules(
    rules: Rules, served: Mapping[str, ServedModel], keys: Collection[str] | None = None
) -> None:
    """Make sure that rules name what is there.

    Args:
        rules: The rules.
        served: What is served, by name.
        keys: Names of the server's API keys; None where they are not known.

    Raises:
        SettingsError: If a rule names an unknown variant, an unknown key, or a variant that is
            not for all whom the rule is for, or if a route has the name of a variant; it lists
            every problem.
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
    problems += [
        f"route.{route}: {label}: the server has no key '{key}'{suggestion(key, keys, 5)}"
        for route, found in rules.routes.items()
        for label, choice in found.choices
        for key in choice.whom[1]
        if keys is not None and key not in keys
    ]
    if problems:
        raise SettingsError(problems)
