"""The catalogue of objectives: one line each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args

from kamerton.objectives.distillation import Distillation, DistillationSettings
from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.drpo import Drpo, DrpoSettings
from kamerton.objectives.grpo import Grpo, GrpoSettings
from kamerton.objectives.kto import Kto, KtoSettings
from kamerton.objectives.objective import Objective
from kamerton.objectives.orpo import Orpo, OrpoSettings
from kamerton.objectives.ppo import Ppo, PpoSettings
from kamerton.objectives.reward import Reward, RewardSettings
from kamerton.objectives.rloo import Rloo, RlooSettings
from kamerton.objectives.settings import ObjectiveSettings
from kamerton.objectives.sft import Sft, SftSettings
from kamerton.objectives.simpo import Simpo, SimpoSettings

__all__ = [
    "OBJECTIVES",
    "AnyObjectiveSettings",
    "ObjectiveRecord",
    "ObjectiveSettings",
    "make_objective",
    "record_of",
]

_S = TypeVar("_S", bound=ObjectiveSettings)


@dataclass(frozen=True, eq=False)
class ObjectiveRecord(Generic[_S]):
    """One objective.

    Attributes:
        settings: The class of its table in a recipe.
        make: Makes the objective, which says itself what it takes and needs.
        rate: The factor on the method's default learning rate. Preferences go far from
            their start at fine-tuning's rate, and own answers are noisy: these are the rates that
            kept most of a desk's rules on nano (`benchmarks/results/preferences_*`).
    """

    settings: type[_S]
    make: Callable[[_S], Objective]
    rate: float = 1.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names in recipes and manifests: one or several."""
        return get_args(self.settings.model_fields["kind"].annotation)


OBJECTIVES: tuple[ObjectiveRecord[Any], ...] = (
    ObjectiveRecord(SftSettings, lambda _: Sft()),
    ObjectiveRecord(DistillationSettings, Distillation),
    ObjectiveRecord(DpoSettings, Dpo, rate=0.02),
    ObjectiveRecord(SimpoSettings, Simpo, rate=0.04),
    ObjectiveRecord(OrpoSettings, Orpo, rate=0.4),
    ObjectiveRecord(KtoSettings, Kto, rate=0.04),
    ObjectiveRecord(RewardSettings, Reward, rate=0.4),
    ObjectiveRecord(RlooSettings, Rloo, rate=0.4),
    ObjectiveRecord(GrpoSettings, Grpo, rate=0.4),
    ObjectiveRecord(PpoSettings, Ppo, rate=0.4),
    ObjectiveRecord(DrpoSettings, Drpo, rate=0.4),
)
"""Everything that training can minimise."""

if TYPE_CHECKING:
    AnyObjectiveSettings = ObjectiveSettings
else:
    # Pydantic chooses the member by its kind, and refuses a kind that is not here.
    AnyObjectiveSettings = Union[tuple(one.settings for one in OBJECTIVES)]  # noqa: UP007


def record_of(kind: str) -> ObjectiveRecord[Any]:
    """Find an objective.

    Args:
        kind: The objective's name in recipes.

    Returns:
        Its record.
    """
    return next(one for one in OBJECTIVES if kind in one.kinds)


def make_objective(settings: ObjectiveSettings) -> Objective:
    """Make an objective.

    Args:
        settings: The settings of its kind.

    Returns:
        The objective.
    """
    made: Objective = record_of(settings.kind).make(settings)
    return made
