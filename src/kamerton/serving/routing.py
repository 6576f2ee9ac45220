"""The router: maps the name that a client asks for, and who it is, to the variant that answers."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from kamerton.core.routing import Caller, Decision
from kamerton.experiments.assignment import assign, takes_part
from kamerton.experiments.settings import unit_of
from kamerton.serving.routes import CanarySettings, RouteSettings, Rules, RuleSettings

__all__ = ["Router"]


class Router:
    """Decides by rules; it keeps no state of units, as a keyed hash gives each the same again.

    Args:
        rules: The rules.
        clock: Gives the time, with its zone.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rules, self._clock = rules, clock

    def decide(self, name: str, caller: Caller) -> Decision | None:
        """Choose a variant.

        Args:
            name: What the client asks for.
            caller: Who asks.

        Returns:
            The decision; None where no route has this name.
        """
        # Taken once: the rules may be replaced by others at any time.
        rules = self.rules
        route = rules.routes.get(name)
        if route is None:
            return None
        label, choice = next(
            (label, choice)
            for label, choice in route.choices
            if not isinstance(choice, RuleSettings) or not choice.mismatch(caller)
        )
        found = self._choose(rules, route, choice, name, caller)
        return replace(
            found,
            route=name,
            rule=label,
            shadows=tuple(one for one in route.shadow if one != found.variant),
            version=rules.version,
        )

    def _choose(
        self,
        rules: Rules,
        route: RouteSettings,
        choice: RuleSettings | RouteSettings,
        name: str,
        caller: Caller,
    ) -> Decision:
        if choice.experiment:
            return self._assign(rules, choice.experiment, caller)
        own = choice.variant if isinstance(choice, RuleSettings) else ""
        otherwise = Decision(own or route.default, "rule" if own else "default")
        unit = unit_of(caller, route.unit)
        if not unit:
            # Without a stable id a unit would get another variant with each request.
            return otherwise
        if choice.split:
            found = assign(choice.split, f"route {name}", unit)
            return Decision(found.arm, "split", propensity=found.propensity)
        if choice.canary:
            return self._ramp(choice.canary, name, unit, otherwise)
        return otherwise

    def _ramp(self, canary: CanarySettings, name: str, unit: str, otherwise: Decision) -> Decision:
        share = canary.share(self._clock())
        # The variant is part of the key: the next canary begins with other units.
        if takes_part(share, f"route {name} canary {canary.variant}", unit):
            return Decision(canary.variant, "canary", arm="canary", propensity=share)
        return replace(otherwise, propensity=1 - share)

    def _assign(self, rules: Rules, name: str, caller: Caller) -> Decision:
        experiment = rules.experiments[name]
        unit = unit_of(caller, experiment.unit)
        control = Decision(experiment.arms[experiment.control].variant, "default")
        if not unit or not takes_part(experiment.share, experiment.key, unit):
            return control
        found = assign(experiment.weights, experiment.key, unit)
        return Decision(
            experiment.arms[found.arm].variant,
            "experiment",
            experiment=name,
            arm=found.arm,
            propensity=found.propensity,
        )
