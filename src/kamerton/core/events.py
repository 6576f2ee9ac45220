"""Events: frozen records that flows emit and sinks (console, JSONL, store, TensorBoard) receive.

There is no callback tower: a sink is any function that takes an event.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CheckpointSaved",
    "Event",
    "Forecast",
    "HoldoutMeasured",
    "Notice",
    "Progress",
    "RunFinished",
    "RunStarted",
    "Sink",
    "StepDone",
    "fan_out",
    "under_way",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something the user should know: a fallback, an ignored setting, a dropped example."""

    message: str
    level: str = "info"
    """`info` or `warning`."""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far a long task is."""

    task: str
    done: float
    total: float | None
    unit: str = ""
    share: float | None = None
    """Share of the work that is done, 0 to 1, where things differ in size; None: `done` of
    `total`."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A training run begins or goes on."""

    run_id: str
    name: str
    num_steps: int
    first_step: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Step-0 facts: trainable share, row plan, dtype, predicted memory."""


@dataclass(frozen=True, slots=True)
class StepDone(Event):
    """One optimiser step."""

    step: int
    """Number of steps done, from 1."""
    num_steps: int
    loss: float
    """Mean over the step's labelled tokens, or over its examples, as the objective says."""
    learning_rate: float
    grad_norm: float
    num_tokens: int
    num_labelled: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Named numbers beside the loss that the objective reports."""
    share: float | None = None
    """Share of the run's work that is done, by tokens, 0 to 1; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Forecast(Event):
    """How long the rest of a run will take, said once after its first steps."""

    step: int
    """Number of steps done."""
    seconds: float
    """Left, measurements included."""
    peak_bytes: int
    """Most memory so far: of the GPU, or of the process."""


@dataclass(frozen=True, slots=True)
class HoldoutMeasured(Event):
    """Held-out loss."""

    step: int
    loss: float
    """Mean over the holdout's labelled tokens, or over its examples, as the objective says."""
    best: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Named numbers beside the loss that the objective reports."""


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """A state from which the run can go on exactly."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """A run ended by itself."""

    run_id: str
    step: int
    reason: str
    """`done` or `early stop`."""
    metrics: Mapping[str, float] = field(default_factory=dict)


Sink = Callable[[Event], None]


@contextmanager
def under_way(task: str, sink: Sink) -> Iterator[None]:
    """Tell a sink that something runs whose progress cannot be measured.

    Args:
        task: What, as a participle.
        sink: Receives its beginning and its end.

    Yields:
        Nothing.
    """
    sink(Progress(task, 0, None))
    try:
        yield
    finally:
        sink(Progress(task, 1, 1))


def fan_out(sinks: Sequence[Sink]) -> Sink:
    """Make one sink of several.

    Args:
        sinks: Called in order for every event.

    Returns:
        The sink.
    """

    def send(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return send
