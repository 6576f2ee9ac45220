"""Exposures: which units have met an experiment, noted when their arm is decided."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kamerton.core.routing import Caller, Decision, Exposure
from kamerton.experiments.settings import unit_of
from kamerton.serving.routes import Rules

__all__ = ["Exposures", "exposure_of"]


@dataclass(eq=False)
class Exposures:
    """Passes each assignment on once, so that a busy unit does not fill the store's queue.

    Attributes:
        write: Takes an assignment.
        most_remembered: Assignments that are remembered; older ones are passed on again.
    """

    write: Callable[[Exposure], None]
    most_remembered: int = 100_000
    _seen: dict[tuple[str, str, str], None] = field(default_factory=dict, repr=False)

    def note(self, exposure: Exposure | None) -> None:
        """Note an assignment.

        Args:
            exposure: The assignment; None where there was none.
        """
        if exposure is None:
            return
        key = exposure.experiment, exposure.unit, exposure.arm
        if key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > self.most_remembered:
            del self._seen[next(iter(self._seen))]
        self.write(exposure)


def exposure_of(rules: Rules, decision: Decision, caller: Caller) -> Exposure | None:
    """Say which unit a decision exposes.

    Args:
        rules: The rules that decided.
        decision: The decision.
        caller: Who asks.

    Returns:
        The assignment; None outside of experiments.
    """
    experiment = rules.experiments.get(decision.experiment)
    if experiment is None:
        return None
    unit = unit_of(caller, experiment.unit)
    return Exposure(decision.experiment, unit, decision.arm, decision.propensity)
