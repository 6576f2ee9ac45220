"""How rules choose a variant for a caller: pure functions of rules, stops and the moment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kamerton.core.routing import Caller, Decision
from kamerton.experiments.assignment import assign, takes_part
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import unit_of
from kamerton.serving.adaptive import AdaptiveArms
from kamerton.serving.route_settings import CanarySettings, RouteSettings, RuleSettings
from kamerton.serving.routes import Rules

__all__ = ["CANARY", "Explanation", "Standing", "Stop", "assigned", "decided"]

CANARY = "canary"
"""Name of the arm that a canary's new variant is."""


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


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides at a moment.

    Attributes:
        rules: The rules.
        stopped: Arms and canaries that get no units.
        moment: With its zone; ramps go by it.
        registered: The experiments that were started, by name; None where all that rules name run.
        adaptive: Shares and known units of the experiments whose shares follow the outcomes.
    """

    rules: Rules
    stopped: Collection[Stop]
    moment: datetime
    registered: Mapping[str, RegisteredExperiment] | None = None
    adaptive: AdaptiveArms = field(default_factory=AdaptiveArms)


def decided(now: Standing, name: str, caller: Caller) -> Explanation | None:
    """Choose a variant.

    Args:
        now: What decides.
        name: What the client asks for.
        caller: Who asks.

    Returns:
        The decision with its reasons; None where no route has this name.
    """
    route = now.rules.routes.get(name)
    if route is None:
        return None
    steps = []
    for label, choice in route.choices:
        mismatch = choice.mismatch(caller) if isinstance(choice, RuleSettings) else ""
        if not mismatch:
            break
        steps.append(f"{label}: no, {mismatch}")
    found = _choose(now, name, choice, caller)
    decision = replace(
        found.decision,
        route=name,
        rule=label,
        shadows=tuple(one for one in route.shadow if one != found.decision.variant),
        version=now.rules.version,
    )
    (why,) = found.steps
    return replace(found, decision=decision, steps=(*steps, f"{label}: {why}"))


def assigned(now: Standing, name: str, caller: Caller) -> Explanation:
    """Assign a unit in an experiment, whatever route it comes by.

    Args:
        now: What decides.
        name: Of the experiment, which is known.
        caller: Who asks.

    Returns:
        The decision, with one step.
    """
    experiment = now.rules.experiments[name]
    control = Decision(experiment.arms[experiment.control].variant, "default")
    if now.registered is not None:
        state = now.registered.get(name)
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
    found = now.adaptive.arm_of(experiment, unit)
    if Stop(name, experiment.phase, found.arm) in now.stopped:
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


def _choose(
    now: Standing, name: str, choice: RuleSettings | RouteSettings, caller: Caller
) -> Explanation:
    if choice.experiment:
        return assigned(now, choice.experiment, caller)
    route = now.rules.routes[name]
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
    return _ramped(now, choice.canary, name, unit, otherwise)


def _ramped(
    now: Standing, canary: CanarySettings, name: str, unit: str, otherwise: Decision
) -> Explanation:
    variant = canary.variant
    if Stop(name, variant, CANARY, is_canary=True) in now.stopped:
        why = f"{otherwise.variant}, as the canary {variant} is stopped"
        return Explanation(otherwise, (why,), is_stopped=True)
    share = canary.share(now.moment)
    # The variant is part of the key: the next canary begins with other units.
    if takes_part(share, f"route {name} canary {variant}", unit):
        drawn = Decision(variant, "canary", arm=CANARY, propensity=share)
        return Explanation(drawn, (f"the canary {variant}, among {share:.1%} of units",))
    why = f"{otherwise.variant}, not among the canary's {share:.1%} of units"
    return Explanation(replace(otherwise, propensity=1 - share), (why,))
