"""The forecast of a recipe's time and memory on this machine, from its own first steps."""

import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kamerton.core.errors import InterruptedRun
from kamerton.core.events import Event, Forecast, RunStarted, StepDone
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.training.forecast import Pace, peak_bytes, seconds_left

__all__ = ["Measured", "is_at_hand", "measure"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run will take.

    Attributes:
        seconds: From the command to the last step.
        peak_bytes: Most memory of the first steps: of the GPU, or of the process.
        num_steps: Optimiser steps of the run.
        num_measured: Steps that were measured.
    """

    seconds: float
    peak_bytes: int
    num_steps: int
    num_measured: int


@dataclass(eq=False)
class _Watched:
    """What the events of a run's beginning say."""

    limit_s: float
    began: float = field(default_factory=time.monotonic)
    started: float | None = None
    num_steps: int = 0
    tokens_per_epoch: int = 0
    paces: list[Pace] = field(default_factory=list)
    forecast: Forecast | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = time.monotonic()
                self.num_steps = event.num_steps
                self.tokens_per_epoch = int(event.facts.get("tokens", 0))
            case StepDone():
                self.paces.append(Pace(event.num_tokens, event.seconds))
            case Forecast():
                self.forecast = event

    def is_enough(self) -> bool:
        """Tell whether to stop: at the run's own forecast, or when the time is up."""
        if self.started is None or not self.paces:
            return False
        return self.forecast is not None or time.monotonic() - self.started > self.limit_s


def is_at_hand(base: str) -> bool:
    """Tell whether a base can be measured without the network.

    Args:
        base: The base's place.

    Returns:
        Whether it is bundled or on the disk.
    """
    return base.startswith("builtin:") or Path(base).exists()


def measure(recipe: Recipe, folder: Path, limit_s: float = 10.0) -> Measured:
    """Take the first steps of a recipe, forget them, and forecast the rest.

    Args:
        recipe: The recipe.
        folder: The folder that its paths are relative to.
        limit_s: Seconds after which no further step is begun.

    Returns:
        The forecast; of a run that is over sooner, what it took.

    Raises:
        KamertonError: If the recipe cannot be trained.
    """
    watched = _Watched(limit_s)
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        with contextlib.suppress(InterruptedRun):
            make_variant(
                recipe, folder, Workspace(Path(scratch)), watched, should_stop=watched.is_enough
            )
        started = watched.started or time.monotonic()
        done = sum(pace.seconds for pace in watched.paces)
        forecast = watched.forecast
        if forecast is not None:
            left, peak = forecast.seconds, forecast.peak_bytes
        else:
            import torch

            tokens = watched.tokens_per_epoch * recipe.train.epochs
            to_come = max(0, tokens - sum(pace.num_tokens for pace in watched.paces))
            over = len(watched.paces) >= watched.num_steps
            left = 0.0 if over else seconds_left(watched.paces, to_come)
            peak = peak_bytes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Measured(
        started - watched.began + done + left, peak, watched.num_steps, len(watched.paces)
    )
