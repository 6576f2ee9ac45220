"""Preflight: which checks run before the first step, and in which order."""

from pathlib import Path
from typing import Any

import pytest

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.events import Event, Notice
from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.training import preflight
from kamerton.training.defaults import resolve
from kamerton.training.plan import plan_run
from kamerton.training.scoring import reference_sums
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from tests.shapes import tiny_base
from tests.unit.training.test_pairs import pairs

SETTINGS = TrainSettings(epochs=1, tokens_per_step=80, threads=1)


def test_the_checks_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def watch(name: str) -> None:
        real = getattr(preflight, name)

        def noted(*inputs: Any, **named: Any) -> Any:
            called.append(name)
            return real(*inputs, **named)

        monkeypatch.setattr(preflight, name, noted)

    order = ["settle_rows", "check_reference", "saved_bytes_per_token", "blocks_to_recompute"]
    for name in reversed(order):
        watch(name)
    base, some, events = tiny_base("llama"), pairs(8), list[Event]()
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    task = Task(
        name="run", base=base, adapter=lora, objective=Dpo(DpoSettings()), train=some, holdout=(),
        settings=SETTINGS, folder=tmp_path, identity="same",
        references=(reference_sums(base, some), ()),
    )  # fmt: skip
    lengths = [30] * len(some)
    chosen = resolve(SETTINGS, lengths, (1e-3, "a test"), online=False)

    def never(*_: Any) -> Any:
        raise AssertionError("nothing is answered where the data bring the answers")

    plan = plan_run(lengths, chosen.settings)
    checked = preflight.preflight(task, plan, lengths, chosen, never, events.append)
    assert called == order
    assert (checked.ragged, checked.blockwise, checked.recomputed_blocks) == (True, True, 0)
    assert checked.facts["tokens"] == 240
    assert checked.facts["self_check"] < 1e-3
    # What was chosen is said last, and 4 steps are few.
    notices = [(event.message, event.level) for event in events if isinstance(event, Notice)]
    assert any("a test" in message for message, _ in notices[:-1])
    assert notices[-1][0].startswith("4 optimiser steps teach little: ")
    assert notices[-1][1] == "warning"
