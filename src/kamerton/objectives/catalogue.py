"""The catalogue of objectives: one line each."""

from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.kto import Kto, KtoSettings
from kamerton.objectives.objective import Objective
from kamerton.objectives.orpo import Orpo, OrpoSettings
from kamerton.objectives.sft import Sft, SftSettings
from kamerton.objectives.simpo import Simpo, SimpoSettings

__all__ = ["ObjectiveSettings", "make_objective"]

ObjectiveSettings = SftSettings | DpoSettings | SimpoSettings | OrpoSettings | KtoSettings
"""One member per objective."""


def make_objective(settings: ObjectiveSettings) -> Objective:
    """Make an objective.

    Args:
        settings: Of its kind.

    Returns:
        The objective.
    """
    match settings:
        case SftSettings():
            return Sft()
        case DpoSettings():
            return Dpo(settings)
        case SimpoSettings():
            return Simpo(settings)
        case OrpoSettings():
            return Orpo(settings)
        case KtoSettings():
            return Kto(settings)
