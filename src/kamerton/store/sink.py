"""Follows a run's events in the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton.core.events import (
    CheckpointSaved,
    Event,
    HoldoutMeasured,
    RunFinished,
    RunStarted,
    Sink,
    StepDone,
)
from kamerton.store.database import Store

__all__ = ["store_sink"]


def store_sink(store: Store, recipe: Mapping[str, Any], folder: Path) -> Sink:
    """Make a sink that keeps a run's record up to date.

    Args:
        store: An open store.
        recipe: Plain values of the recipe.
        folder: Of the run.

    Returns:
        The sink; it writes at the start, at measurements, checkpoints and the end.
    """
    state: dict[str, Any] = {}

    def send(event: Event) -> None:
        match event:
            case RunStarted():
                state["id"] = store.add_run(event.name, recipe, folder, event.num_steps)
                store.update_run(state["id"], step=event.first_step)
            case StepDone():
                state["loss"], state["step"] = event.loss, event.step
            case HoldoutMeasured(best=True):
                store.update_run(state["id"], holdout_loss=event.loss, step=event.step)
            case CheckpointSaved() if "loss" in state:
                store.update_run(state["id"], step=event.step, loss=state["loss"])
            case RunFinished():
                store.update_run(state["id"], status="done", step=event.step)

    return send
