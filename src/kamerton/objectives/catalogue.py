"""The catalogue of objectives: one line each."""

from kamerton.objectives.objective import Objective
from kamerton.objectives.sft import Sft, SftSettings

__all__ = ["ObjectiveSettings", "make_objective"]

ObjectiveSettings = SftSettings
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
