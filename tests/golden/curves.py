"""Tiny fixed runs and their full-precision loss curves.

    python -m tests.golden.curves      # write curves.json anew, after a change that is meant

A refactor leaves the curves as they are; a change of the mathematics shows in the diff.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.full import attach_full
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.events import Event, HoldoutMeasured, StepDone
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.renderer import TokenizedExample
from kamerton.models.base import Base
from kamerton.objectives.sft import Sft
from kamerton.training.loop import train
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from tests.shapes import VOCABULARY, tiny_base

FILE = Path(__file__).with_name("curves.json")
RUNS = ("llama-lora", "gemma3-lora", "gpt2-full", "llama-dora")
SETTINGS = TrainSettings(
    epochs=3, tokens_per_step=120, tokens_per_row=50, learning_rate=2e-3, warmup=0.03,
    weight_decay=0.01, threads=1, seed=7, checkpoint_every_s=1e9,
)  # fmt: skip


def examples(count: int, seed: int) -> list[TokenizedExample]:
    """Token sequences that count upwards, so that there is something to learn."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(random.integers(6, 24))
        first, stride = random.integers(3, VOCABULARY), random.integers(1, 4)
        ids = 3 + (first + stride * np.arange(length)) % (VOCABULARY - 3)
        loss_mask = np.arange(length) >= length // 3
        made.append(
            TokenizedExample(
                ids.astype(np.int32), loss_mask, SourceLocation("made.jsonl", number + 1)
            )
        )
    return made


def attached(base: Base, method: str) -> Adapter:
    """Attach the method of a run."""
    if method == "full":
        return attach_full(base)
    lora = LoraSettings(rank=4, dropout=0.1, dora=method == "dora")
    return attach_lora(base, lora, seed=SETTINGS.seed)


def curve(name: str) -> dict[str, list[float]]:
    """Run one of `RUNS` in fp32 on one thread.

    Returns:
        `loss` and `grad_norm` by step, `holdout` by epoch.
    """
    shape, method = name.split("-")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    events: list[Event] = []
    try:
        base = tiny_base(shape)
        with tempfile.TemporaryDirectory() as folder:
            task = Task(
                name=name, base=base, adapter=attached(base, method), objective=Sft(),
                train=examples(30, seed=1), holdout=examples(6, seed=2), settings=SETTINGS,
                folder=Path(folder), identity=name,
            )  # fmt: skip
            train(task, events.append)
    finally:
        torch.set_num_threads(threads)
    steps = [event for event in events if isinstance(event, StepDone)]
    return {
        "loss": [event.loss for event in steps],
        "grad_norm": [event.grad_norm for event in steps],
        "holdout": [event.loss for event in events if isinstance(event, HoldoutMeasured)],
    }


def main() -> None:
    """Write the file anew."""
    curves = {name: curve(name) for name in RUNS}
    FILE.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
