"""Sinks for the events of a run: a JSONL file and TensorBoard."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kamerton.core.errors import MissingExtraError
from kamerton.core.events import Event, HoldoutMeasured, Progress, RunStarted, Sink, StepDone
from kamerton.core.files import write_atomically

__all__ = ["jsonl_sink", "read_events", "tensorboard_sink"]


def jsonl_sink(path: Path) -> Sink:
    """Write every event as a line; a resumed run first drops the lines it is about to repeat.

    Args:
        path: The file.

    Returns:
        The sink.
    """

    def send(event: Event) -> None:
        if isinstance(event, Progress):
            return
        if isinstance(event, RunStarted):
            kept = [line for line in read_events(path) if line.get("step", 0) <= event.first_step]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            write_atomically(path, text if event.first_step else "")
        line = {"event": type(event).__name__, **_plain(asdict(event))}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return send


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read a file that `jsonl_sink` wrote; a line cut off by a crash ends it.

    Args:
        path: The file; may be missing.

    Returns:
        One mapping per event; the `parts` of older files are given as `metrics`.
    """
    events: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                break
            if "parts" in event:
                event["metrics"] = event.pop("parts")
            events.append(event)
    return events


def tensorboard_sink(folder: Path) -> Sink:
    """Write losses, learning rate and gradient norm for TensorBoard.

    Args:
        folder: Log folder.

    Returns:
        The sink.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "tensorboard", 'log = "tensorboard"') from None
    writer: Any = SummaryWriter(folder)

    def send(event: Event) -> None:
        if isinstance(event, StepDone):
            writer.add_scalar("train/loss", event.loss, event.step)
            writer.add_scalar("train/learning_rate", event.learning_rate, event.step)
            writer.add_scalar("train/grad_norm", event.grad_norm, event.step)
            for name, value in event.metrics.items():
                writer.add_scalar(f"train/{name}", value, event.step)
        elif isinstance(event, HoldoutMeasured):
            writer.add_scalar("holdout/loss", event.loss, event.step)
            writer.flush()

    return send


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}
