"""An experiment as the store has it: registered when it was started, and never changed after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kamerton.experiments.settings import ExperimentSettings
from kamerton.store.experiments import ExperimentEvent, ExperimentRow

__all__ = ["RegisteredExperiment", "registered_experiment"]


@dataclass(frozen=True, slots=True)
class RegisteredExperiment:
    """An experiment that was started.

    Attributes:
        settings: What was declared; a file that was changed since has no effect.
        version: Tells it from another registration of the name.
        planned_units: Units of the control and one arm at which the analysis is tightest.
        units_per_day: New units a day that the plan counts with.
        started: When, UTC without a zone.
        ended: When, UTC without a zone; None while it runs.
        promoted: The arm that all units get since it was stopped; empty for the control.
        history: What was done to it, by whom and when, the first one first.
    """

    settings: ExperimentSettings
    version: str
    planned_units: int
    units_per_day: float
    started: datetime
    ended: datetime | None = None
    promoted: str = ""
    history: tuple[ExperimentEvent, ...] = ()

    @property
    def registration(self) -> str:
        """Hash of everything that was declared, SHA-256 in hex."""
        return self.settings.registration

    @property
    def is_running(self) -> bool:
        """Whether units are assigned."""
        return self.ended is None

    @property
    def answering(self) -> str:
        """The variant that answers units which are not assigned."""
        return self.settings.arms[self.promoted or self.settings.control].variant

    def plain(self) -> dict[str, Any]:
        """Give what the store keeps of it.

        Returns:
            Plain values that `registered_experiment` reads.
        """
        return {
            "experiment": self.settings.model_dump(mode="json"),
            "registration": self.registration,
            "planned_units": self.planned_units,
            "units_per_day": self.units_per_day,
        }


def registered_experiment(
    row: ExperimentRow, events: Sequence[ExperimentEvent] = ()
) -> RegisteredExperiment:
    """Read a row of the store.

    Args:
        row: Of an experiment that was started.
        events: What was done to it, in order of time.

    Returns:
        The experiment.
    """
    assert row.started is not None
    kept: Mapping[str, Any] = row.settings
    promoted = ""
    for event in events:
        if event.what == "stopped":
            promoted = str(event.detail.get("promoted", ""))
    return RegisteredExperiment(
        ExperimentSettings.parse(kept["experiment"], source=f"experiment {row.name}"),
        row.version,
        int(kept["planned_units"]),
        float(kept["units_per_day"]),
        row.started,
        row.ended,
        promoted,
        tuple(events),
    )
