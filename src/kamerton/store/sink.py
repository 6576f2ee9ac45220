"""Follows a run's events in the store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kamerton.core.errors import InterruptedRun
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

__all__ = ["record_run"]


@contextmanager
def record_run(store: Store, recipe: Mapping[str, Any], folder: Path) -> Iterator[Sink]:
    """Keep a run's record up to date while it runs; an error ends it as stopped or failed.

    Args:
        store: An open store.
        recipe: Plain values of the recipe.
        folder: Folder of the run.

    Yields:
        A sink; it writes at the start, at measurements, checkpoints and the end.
    """
    state: dict[str, Any] = {}

    def send(event: Event) -> None:
        match event:
            case RunStarted():
                state["id"] = store.begin_run(
                    event.name, recipe, folder, event.num_steps, event.first_step
                )
            case StepDone():
                state["loss"], state["step"] = event.loss, event.step
            case HoldoutMeasured(best=True):
                store.update_run(state["id"], holdout_loss=event.loss, step=event.step)
            case CheckpointSaved() if "loss" in state:
                store.update_run(state["id"], step=event.step, loss=state["loss"])
            case RunFinished():
                store.update_run(state["id"], status="done", step=event.step)

    try:
        yield send
    except BaseException as error:
        if "id" in state:
            stopped = isinstance(error, InterruptedRun | KeyboardInterrupt)
            store.update_run(state["id"], status="stopped" if stopped else "failed")
        raise
