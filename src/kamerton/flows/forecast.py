"""The forecast of a recipe's time and memory on this machine, from its own first steps."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kamerton.core.errors import AdapterError
from kamerton.core.events import Event, Progress, Sink
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.training.forecast import peak_bytes
from kamerton.training.sample import Sampled, sample
from kamerton.training.task import Outcome, Task

__all__ = ["Measured", "is_at_hand", "measure"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run will take.

    Attributes:
        seconds: From the command to the variant that is written.
        peak_bytes: Most memory: of the GPU, or of the process.
        num_steps: Optimiser steps of the run.
        num_measured: Steps that were measured.
        parts: Seconds by part, in the order of the run: "start", "steps", "measuring", "saving" and
            "end", which is general text, the check of the effect, and writing.
    """

    seconds: float
    peak_bytes: int
    num_steps: int
    num_measured: int
    parts: Mapping[str, float]


def is_at_hand(base: str) -> bool:
    """Tell whether a base can be measured without the network.

    Args:
        base: The base's place.

    Returns:
        Whether it is bundled or on the disk.
    """
    return base.startswith("builtin:") or Path(base).exists()


def measure(
    recipe: Recipe,
    folder: Path,
    sink: Sink = lambda event: None,
    *,
    limit_s: float = 10.0,
    imports_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Make the variant somewhere else with a few of its steps, forget it, and forecast the rest.

    Everything but the steps, the measurements and the checkpoints is done as it will be, so its
    time and memory are in the forecast.

    Args:
        recipe: The recipe.
        folder: The folder that its paths are relative to.
        sink: Receives progress.
        limit_s: Seconds for the sample of steps; one is always taken.
        imports_s: Seconds that loading Python and PyTorch takes, which a run pays too.
        clock: Gives seconds.

    Returns:
        The forecast.

    Raises:
        KamertonError: If the recipe cannot be trained.
    """
    found: list[tuple[float, Sampled, torch.device]] = []

    def take_sample(task: Task, own: Sink, should_stop: Callable[[], bool]) -> Outcome:
        outcome, sampled = sample(task, own, limit_s, clock)
        found.append((clock(), sampled, task.base.device))
        return outcome

    def quiet(event: Event) -> None:
        # What it says of its own short life is not true of the run.
        if isinstance(event, Progress):
            sink(event)

    began = clock()
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        try:
            make_variant(recipe, folder, Workspace(Path(scratch)), quiet, train=take_sample)
        except AdapterError:
            # A few steps may be too few to change an answer.
            if not found:
                raise
        ended = clock()
    if not found:
        # A prompt is written, and nothing is trained.
        found.append((ended, Sampled(0, 0, 0.0, 0.0, 0.0, 0.0), torch.device("cpu")))
    at, sampled, device = found[0]
    parts = {
        "start": imports_s + at - began - sampled.spent_s,
        "steps": sampled.steps_s,
        "measuring": sampled.measuring_s,
        "saving": sampled.saving_s,
        "end": ended - at,
    }
    return Measured(
        sum(parts.values()),
        peak_bytes(device),
        sampled.num_steps,
        sampled.num_measured,
        parts,
    )
