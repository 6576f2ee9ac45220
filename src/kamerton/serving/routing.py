"""The router: maps the name that a client asks for, and who it is, to the variant that answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller, Decision, RoutingEvent
from kamerton.core.settings import suggestion
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.serving.adaptive import AdaptiveArms
from kamerton.serving.decisions import CANARY, Explanation, Standing, Stop, assigned, decided
from kamerton.serving.routes import Rules
from kamerton.serving.routing_counts import SILENT_AFTER, RoutingCounts

__all__ = ["Router"]


class Router:
    """Decides by rules; a keyed hash gives each unit the same again.

    Only experiments with adaptive shares remember units, as their shares change.

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
        adaptive: Shares and known units of the experiments whose shares follow the outcomes.
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
        self.adaptive = AdaptiveArms()
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
        return decided(self._standing, name, caller)

    def explain_experiment(self, name: str, caller: Caller) -> Explanation | None:
        """Assign a unit in an experiment, whatever route it comes by, and say why.

        Args:
            name: Of the experiment.
            caller: Who asks.

        Returns:
            The decision with its reasons; None where no route has this experiment.
        """
        if name not in self.rules.experiments:
            return None
        found = assigned(self._standing, name, caller)
        return replace(found, decision=replace(found.decision, version=self.rules.version))

    @property
    def _standing(self) -> Standing:
        return Standing(self.rules, self.stopped, self._clock(), self.registered, self.adaptive)

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
        kind = CANARY if what.is_canary else "arm"
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
        return [Stop(name, variant, CANARY, is_canary=True) for variant in sorted(variants)]
