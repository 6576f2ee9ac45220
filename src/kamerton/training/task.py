"""The task that the training loop is given, and the outcome that it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kamerton.adapters.adapter import Adapter
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.models.base import Base
from kamerton.objectives.objective import Objective
from kamerton.training.rollouts import Distance, Rollouts
from kamerton.training.scoring import References, measure
from kamerton.training.settings import TrainSettings
from kamerton.training.teachings import Teachings

__all__ = ["Outcome", "Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """A task for the training loop.

    Attributes:
        name: The run's name.
        base: The base with the adapter attached.
        adapter: The adapter that learns.
        objective: The objective that it minimises.
        train: Examples to learn from, of the kind that the objective takes.
        holdout: Examples to measure on; may be empty.
        settings: The settings of the training loop.
        folder: The folder of checkpoints.
        identity: All that must be equal for a checkpoint to be gone on from, as JSON.
        references: The references of `train` and `holdout`, where the objective needs them.
        teachings: What a teacher says of `train` and `holdout`; None without a teacher.
        starts_as_reference: Whether the model before the first step is the reference.
        rollouts: The source of answers, where the examples are prompts that the model answers
            itself.
        distance: Says how far the model went, where a reference should hold it.
        auto_rate: The rate that `learning_rate = "auto"` means here, and why.
        num_tokens_after: Tokens that are measured after the last step and its measurement.
    """

    name: str
    base: Base
    adapter: Adapter
    objective: Objective
    train: Sequence[TrainingExample]
    holdout: Sequence[TrainingExample]
    settings: TrainSettings
    folder: Path
    identity: str
    references: tuple[References, References] | None = None
    teachings: tuple[Teachings, Teachings] | None = None
    starts_as_reference: bool = True
    rollouts: Rollouts | None = None
    distance: Distance | None = None
    auto_rate: tuple[float, str] = (2e-4, "usual for LoRA")
    num_tokens_after: int = 0

    def with_holdout(self, places: Sequence[int]) -> "Task":
        """Keep some of the held-out examples, with what belongs to them.

        Args:
            places: Places in `holdout`, in the order that is wanted.

        Returns:
            The same task, measured on these.
        """
        references, teachings = self.references, self.teachings
        if references is not None:
            references = (references[0], [references[1][place] for place in places])
        if teachings is not None:
            teachings = (teachings[0], [teachings[1][place] for place in places])
        held = [self.holdout[place] for place in places]
        return replace(self, holdout=held, references=references, teachings=teachings)

    def measure(self, tokens_per_row: int | None = None) -> tuple[float, dict[str, float]]:
        """Measure the model as it is on the holdout.

        Args:
            tokens_per_row: Size of a row; None for that of the settings.

        Returns:
            The loss, a mean over the objective's units, and its metrics.
        """
        tokens_per_row = tokens_per_row or self.settings.tokens_per_row
        if self.rollouts is not None:
            return self.rollouts.measure(self.holdout, tokens_per_row)
        references = self.references and self.references[1]
        teachings = self.teachings and self.teachings[1]
        found = measure(
            self.objective, self.base, self.holdout, references, tokens_per_row, teachings
        )
        if self.distance is not None:
            found[1]["distance"] = self.distance.measure(self.holdout, tokens_per_row)
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run; the adapter holds the kept weights.

    Attributes:
        num_steps: Steps done.
        kept_step: Step whose weights were kept.
        holdout_loss: Held-out loss of the kept weights, a mean over the objective's units; None
            without holdout.
        reason: `done` or `early stop`.
        seconds: Time spent in steps.
        metrics: Numbers by name beside the held-out loss; None if it was measured before an
            interruption, or not at all.
    """

    num_steps: int
    kept_step: int
    holdout_loss: float | None
    reason: str
    seconds: float
    metrics: Mapping[str, float] | None = None
