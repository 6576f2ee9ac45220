"""Tasks: what is measured beside the steps goes in rows of the run's size."""

from pathlib import Path
from typing import Any

import pytest

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.events import Event
from kamerton.inference.engine import EmbeddedEngine
from kamerton.objectives.simpo import Simpo, SimpoSettings
from kamerton.training import scoring
from kamerton.training.findings import metrics_of
from kamerton.training.loop import train
from kamerton.training.references import cached_references
from kamerton.training.rollouts import Distance
from kamerton.training.task import Task
from tests.shapes import tiny_base, tiny_renderer
from tests.unit.training.test_pairs import SMALL, pairs


def test_measurements_have_rows_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = scoring.make_rows

    def noted(examples: Any, tokens_per_row: int, *others: Any, **more: Any) -> Any:
        sizes.append(tokens_per_row)
        return real(examples, tokens_per_row, *others, **more)

    monkeypatch.setattr(scoring, "make_rows", noted)
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    engine = EmbeddedEngine(base, tiny_renderer(base))
    settings = SMALL.model_copy(update={"tokens_per_row": 37, "max_steps": 1})
    events: list[Event] = []
    cached_references(
        base, lora, pairs(2), start="", new_tokens=(), tokens_per_row=37, folder=tmp_path,
        sink=events.append,
    )  # fmt: skip
    task = Task(
        name="run", base=base, adapter=lora, objective=Simpo(SimpoSettings()), train=pairs(6),
        holdout=pairs(3), settings=settings, folder=tmp_path, identity="same",
        distance=Distance(base, engine, lora.disabled, max_tokens=3),
    )  # fmt: skip
    metrics_of(task, train(task, events.append), events.append)
    task.measure()
    # Reference; step; holdout, distance twice; the base's own loss; holdout, distance twice.
    assert sizes == [37] * 9
