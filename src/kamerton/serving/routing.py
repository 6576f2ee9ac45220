"""The router: maps the name that a client asks for, and who it is, to the variant that answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller, Decision, RoutingEvent
from kamerton.core.settings import suggestion
from kamerton.experiments.assignment import assign, takes_part
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import unit_of
from kamerton.serving.routes import CanarySettings, RouteSettings, Rules, RuleSettings
from kamerton.serving.routing_counts import SILENT_AFTER, RoutingCounts

__all__ = ["Explanation", "Router", "Stop"]

_CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Stop:
    """An arm of an experiment, or a canary, that gets no units any more.

    Attributes:
        name: Of the experiment; of the route whose canary it is.
        phase: Of the experiment; the variant of the canary. A new phase is not stopped.
        arm: The arm; "canary" for a canary.
        is_canary: Which of both it is.
    """

    name: str
    phase: str
    arm: str
    is_canary: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a decision came about.

    Attributes:
        decision: The decision.
        steps: The rules that were tried, with why each matched or did not, and what was drawn.
        lacks: What the request does not say and a draw would need: "unit" or another kind of
            unit; empty where nothing is missing.
        is_stopped: Whether the unit's arm or its canary was stopped.
    """

    decision: Decision
    steps: tuple[str, ...]
    lacks: str = ""
    is_stopped: bool = False


class Router:
    """Decides by rules; it keeps no state of units, as a keyed hash gives each the same again.

    Args:
        rules: The rules.
        stopped: What was stopped before the server was started.
        audit: Called with every change, after it was made.
        clock: Gives the time, with its zone.

    Attributes:
        rules: The rules that decide now.
        stopped: What is stopped.
        counts: What has become of requests.
        registered: The experiments that were started, by name; None where all that rules name run.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        stopped: Iterable[Stop] = (),
        audit: Callable[[RoutingEvent], None] = lambda event: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rules, self.stopped = rules, set(stopped)
        self.counts = RoutingCounts(self._tell_silent)
        self.registered: Mapping[str, RegisteredExperiment] | None = None
        self._audits, self._clock = [audit], clock

    def follow(self, audit: Callable[[RoutingEvent], None]) -> None:
        """Call one more function with every change from now on, after it was made.

        Args:
            audit: The function; it must not wait.
        """
        self._audits.append(audit)

    def decide(self, name: str, caller: Caller) -> Decision | None:
        """Choose a variant.

        Args:
            name: What the client asks for.
            caller: Who asks.

        Returns:
            The decision; None where no route has this name.
        """
        found = self.explain(name, caller)
        return found.decision if found else None

    def explain(self, name: str, caller: Caller) -> Explanation | None:
        """Choose a variant and say why.

        Args:
            name: What the client asks for.
            caller: Who asks.

        Returns:
            The decision with its reasons; None where no route has this name.
        """
        rules = self.rules
        route = rules.routes.get(name)
        if route is None:
            return None
        steps = []
        for label, choice in route.choices:
            mismatch = choice.mismatch(caller) if isinstance(choice, RuleSettings) else ""
            if not mismatch:
                break
            steps.append(f"{label}: no, {mismatch}")
        found = self._choose(rules, route, choice, name, caller)
        decision = replace(
            found.decision,
            route=name,
            rule=label,
            shadows=tuple(one for one in route.shadow if one != found.decision.variant),
            version=rules.version,
        )
        (why,) = found.steps
        return replace(found, decision=decision, steps=(*steps, f"{label}: {why}"))

    def explain_experiment(self, name: str, caller: Caller) -> Explanation | None:
        """Assign a unit in an experiment, whatever route it comes by, and say why.

        Args:
            name: Of the experiment.
            caller: Who asks.

        Returns:
            The decision with its reasons; None where no route has this experiment.
        """
        rules = self.rules
        if name not in rules.experiments:
            return None
        found = self._assign(rules, name, caller)
        return replace(found, decision=replace(found.decision, version=rules.version))

    def count(self, decision: Decision) -> None:
        """Count a request that is over.

        Args:
            decision: Which variant answered it.
        """
        route = self.rules.routes.get(decision.route)
        shadows = () if route is None else route.shadow
        self.counts.add(decision, [one for one in shadows if one != decision.variant])

    def load(self, rules: Rules, by_whom: str) -> None:
        """Decide by other rules from now on.

        Args:
            rules: Rules that were checked.
            by_whom: Who replaces them.
        """
        before, self.rules = self.rules.version, rules
        self.counts.keep_only(
            {(name, shadow) for name, route in rules.routes.items() for shadow in route.shadow}
        )
        detail = {
            "version": rules.version,
            "before": before,
            "routes": sorted(rules.routes),
            "experiments": {
                name: {"phase": one.phase, "assignment": one.assignment, "share": one.share}
                for name, one in rules.experiments.items()
            },
        }
        self._audit(RoutingEvent("rules loaded", by_whom, detail=detail))

    def refuse(self, problems: Iterable[str], by_whom: str) -> None:
        """Note that other rules were wrong, and go on with these.

        Args:
            problems: What is wrong with them.
            by_whom: Who wanted them.
        """
        detail = {"version": self.rules.version, "problems": list(problems)}
        self._audit(RoutingEvent("rules refused", by_whom, detail=detail))

    def stop_arm(self, experiment: str, arm: str, *, by_whom: str, why: str = "") -> None:
        """Give an arm no units any more: those that it has get the control, and are not counted.

        Args:
            experiment: Name of the experiment.
            arm: One of its arms, not the control.
            by_whom: Who stops it.
            why: The reason.

        Raises:
            SettingsError: If there is no such arm, or it is the control.
        """
        self._change(self._arm(experiment, arm), by_whom, why, stops=True)

    def resume_arm(self, experiment: str, arm: str, *, by_whom: str, why: str = "") -> None:
        """Give an arm the units again that it had before it was stopped.

        Args:
            experiment: Name of the experiment.
            arm: One of its arms.
            by_whom: Who lets it go on.
            why: The reason.

        Raises:
            SettingsError: If there is no such arm, or it is the control.
        """
        self._change(self._arm(experiment, arm), by_whom, why, stops=False)

    def stop_canary(self, route: str, *, by_whom: str, why: str = "") -> None:
        """Give a new variant no units any more, whatever its ramp says.

        Args:
            route: Name of the route.
            by_whom: Who stops it.
            why: The reason.

        Raises:
            SettingsError: If there is no such route, or it has no canary.
        """
        for one in self._canaries(route):
            self._change(one, by_whom, why, stops=True)

    def resume_canary(self, route: str, *, by_whom: str, why: str = "") -> None:
        """Let a ramp go on where its schedule is now.

        Args:
            route: Name of the route.
            by_whom: Who lets it go on.
            why: The reason.

        Raises:
            SettingsError: If there is no such route, or it has no canary.
        """
        for one in self._canaries(route):
            self._change(one, by_whom, why, stops=False)

    def _audit(self, event: RoutingEvent) -> None:
        for audit in self._audits:
            audit(event)

    def _tell_silent(self, route: str, shadow: str) -> None:
        detail = {"route": route, "shadow": shadow, "requests": SILENT_AFTER}
        self._audit(RoutingEvent("shadow silent", "router", detail=detail))

    def _change(self, what: Stop, by_whom: str, why: str, *, stops: bool) -> None:
        if stops == (what in self.stopped):
            return
        (self.stopped.add if stops else self.stopped.discard)(what)
        kind = _CANARY if what.is_canary else "arm"
        detail = {"name": what.name, "arm": what.arm, "phase": what.phase, "why": why}
        self._audit(
            RoutingEvent(
                f"{kind} {'stopped' if stops else 'resumed'}",
                by_whom,
                "" if what.is_canary else what.name,
                {**detail, "version": self.rules.version},
            )
        )

    def _arm(self, name: str, arm: str) -> Stop:
        found = self.rules.experiments.get(name)
        if found and self.registered and (state := self.registered.get(name)):
            found = state.settings
        if found is None:
            known = suggestion(name, self.rules.experiments)
            raise SettingsError(f"no route has an experiment '{name}'{known}")
        if arm not in found.arms:
            raise SettingsError(f"'{name}' has no arm '{arm}'{suggestion(arm, found.arms)}")
        if arm == found.control:
            raise SettingsError(
                f"'{arm}' is the control of '{name}': units of other arms go there",
                hint="to end the experiment, take it out of the routes",
            )
        return Stop(name, found.phase, arm)

    def _canaries(self, name: str) -> list[Stop]:
        route = self.rules.routes.get(name)
        if route is None:
            known = suggestion(name, self.rules.routes)
            raise SettingsError(f"there is no route '{name}'{known}")
        variants = {choice.canary.variant for _, choice in route.choices if choice.canary}
        if not variants:
            raise SettingsError(f"the route '{name}' has no canary")
        return [Stop(name, variant, _CANARY, is_canary=True) for variant in sorted(variants)]

    def _choose(
        self,
        rules: Rules,
        route: RouteSettings,
        choice: RuleSettings | RouteSettings,
        name: str,
        caller: Caller,
    ) -> Explanation:
        if choice.experiment:
            return self._assign(rules, choice.experiment, caller)
        own = choice.variant if isinstance(choice, RuleSettings) else ""
        otherwise = Decision(own or route.default, "rule" if own else "default")
        if not (choice.split or choice.canary):
            return Explanation(otherwise, (f"yes, {otherwise.variant}",))
        unit = unit_of(caller, route.unit)
        if not unit:
            # Without a stable id a unit would get another variant with each request.
            why = f"{otherwise.variant}, as the request does not say its {route.unit}"
            return Explanation(otherwise, (why,), lacks=route.unit)
        if choice.split:
            found = assign(choice.split, f"route {name}", unit)
            drawn = Decision(found.arm, "split", propensity=found.propensity)
            why = f"split gives the {route.unit} {drawn.variant} ({found.propensity:.1%})"
            return Explanation(drawn, (why,))
        assert choice.canary
        return self._ramp(choice.canary, name, unit, otherwise)

    def _ramp(
        self, canary: CanarySettings, name: str, unit: str, otherwise: Decision
    ) -> Explanation:
        variant = canary.variant
        if Stop(name, variant, _CANARY, is_canary=True) in self.stopped:
            why = f"{otherwise.variant}, as the canary {variant} is stopped"
            return Explanation(otherwise, (why,), is_stopped=True)
        share = canary.share(self._clock())
        # The variant is part of the key: the next canary begins with other units.
        if takes_part(share, f"route {name} canary {variant}", unit):
            drawn = Decision(variant, "canary", arm=_CANARY, propensity=share)
            return Explanation(drawn, (f"the canary {variant}, among {share:.1%} of units",))
        why = f"{otherwise.variant}, not among the canary's {share:.1%} of units"
        return Explanation(replace(otherwise, propensity=1 - share), (why,))

    def _assign(self, rules: Rules, name: str, caller: Caller) -> Explanation:
        experiment = rules.experiments[name]
        control = Decision(experiment.arms[experiment.control].variant, "default")
        if self.registered is not None:
            state = self.registered.get(name)
            if state is None:
                why = f"{control.variant}, as the experiment {name} was not started"
                return Explanation(control, (why,))
            if not state.is_running:
                why = f"{state.answering}, as the experiment {name} was stopped"
                return Explanation(Decision(state.answering, "default"), (why,), is_stopped=True)
            # What was registered holds, whatever the file says now.
            experiment = state.settings
            control = Decision(state.answering, "default")
        unit = unit_of(caller, experiment.unit)
        start = f"experiment {name}: {control.variant}, the control, uncounted, as"
        if not unit:
            why = f"{start} the request does not say its {experiment.unit}"
            return Explanation(control, (why,), lacks=experiment.unit)
        if not takes_part(experiment.share, experiment.key, unit):
            why = f"{start} the unit is not among the {experiment.share:.1%} that take part"
            return Explanation(control, (why,))
        found = assign(experiment.weights, experiment.key, unit)
        if Stop(name, experiment.phase, found.arm) in self.stopped:
            why = f"{start} the unit's arm '{found.arm}' is stopped"
            return Explanation(control, (why,), is_stopped=True)
        drawn = Decision(
            experiment.arms[found.arm].variant,
            "experiment",
            experiment=name,
            arm=found.arm,
            propensity=found.propensity,
        )
        why = f"experiment {name}: arm {found.arm} ({found.propensity:.1%}), {drawn.variant}"
        return Explanation(drawn, (why,))
