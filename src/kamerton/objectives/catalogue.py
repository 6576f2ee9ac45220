"""The catalogue of objectives: one line each."""

from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.drpo import Drpo, DrpoSettings
from kamerton.objectives.grpo import Grpo, GrpoSettings
from kamerton.objectives.kto import Kto, KtoSettings
from kamerton.objectives.objective import Objective
from kamerton.objectives.orpo import Orpo, OrpoSettings
from kamerton.objectives.ppo import Ppo, PpoSettings
from kamerton.objectives.reward import Reward, RewardSettings
from kamerton.objectives.rloo import Rloo, RlooSettings
from kamerton.objectives.sft import Sft, SftSettings
from kamerton.objectives.simpo import Simpo, SimpoSettings

__all__ = ["ObjectiveSettings", "make_objective"]

ObjectiveSettings = (
    SftSettings
    | DpoSettings
    | SimpoSettings
    | OrpoSettings
    | KtoSettings
    | RewardSettings
    | RlooSettings
    | GrpoSettings
    | PpoSettings
    | DrpoSettings
)
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
        case RewardSettings():
            return Reward(settings)
        case RlooSettings():
            return Rloo(settings)
        case GrpoSettings():
            return Grpo(settings)
        case PpoSettings():
            return Ppo(settings)
        case DrpoSettings():
            return Drpo(settings)
