"""Every adapter method in the training loop: exact resume, recomputed blocks."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kamerton.core.errors import InterruptedRun
from kamerton.core.events import Event, StepDone
from kamerton.objectives.sft import Sft
from kamerton.training.loop import train
from kamerton.training.memory import recompute_blocks
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from tests.contract.test_adapters import METHODS, SHAPES, attach_to, gradient, same, trained
from tests.shapes import tiny_base
from tests.unit.training.test_loop import examples

pytestmark = pytest.mark.parametrize(
    "method", METHODS, ids=lambda m: "-".join([m().kind, *m.keywords])
)
SETTINGS = TrainSettings(
    epochs=1, tokens_per_step=64, learning_rate=3e-3, threads=1, checkpoint_every_s=0
)


def weights(method: partial, folder: Path, stop_after: int) -> dict[str, Tensor]:
    """Train a fresh adapter, stopping after each so many steps and going on; 0 is never."""
    folder.mkdir()
    stops = 0
    while True:
        base = tiny_base("llama")
        adapter = attach_to(base, method())
        start = {name: p.detach().clone() for name, p in adapter.parameters().items()}
        task = Task(
            name="run", base=base, adapter=adapter, objective=Sft(), train=examples(24),
            holdout=examples(6, seed=1), settings=SETTINGS, folder=folder, identity="same",
        )  # fmt: skip
        events: list[Event] = []

        def should_stop() -> bool:
            return sum(isinstance(event, StepDone) for event in events) == stop_after > 0

        try:
            train(task, events.append, should_stop)
        except InterruptedRun:
            stops += 1
            continue
        assert (stops > 0) == (stop_after > 0)
        end = {name: p.detach().clone() for name, p in adapter.parameters().items()}
        assert not same(start, end)
        return end


def test_a_stopped_run_ends_with_the_same_bits(method: partial, tmp_path: Path) -> None:
    whole = weights(method, tmp_path / "whole", 0)
    assert same(weights(method, tmp_path / "parts", 2), whole)


@pytest.mark.parametrize("shape", SHAPES)
def test_recomputed_blocks_give_the_same_gradient(method: partial, shape: str) -> None:
    made = trained(method, shape)
    kept = gradient(made.base, made.adapter)
    recompute_blocks(made.base, made.base.num_layers)
    recomputed = gradient(made.base, made.adapter)
    torch.testing.assert_close(recomputed, kept, rtol=1e-5, atol=1e-6 * float(kept.abs().max()))
