"""The optimiser: states in 8 bits come near those in 32, are small, and resume exactly."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kamerton.adapters.full import attach_full
from kamerton.core.errors import InterruptedRun, MissingExtraError
from kamerton.objectives.sft import Sft
from kamerton.training.loop import Task, train
from kamerton.training.optimiser import make_optimiser
from kamerton.training.settings import TrainSettings
from tests.shapes import tiny_base
from tests.unit.training.test_loop import examples

SETTINGS = TrainSettings(
    epochs=2, tokens_per_step=64, learning_rate=3e-3, threads=1, checkpoint_every_s=0
)


def trained(folder: Path, optimiser: str, stop_after: int = 0) -> dict[str, Tensor]:
    """Train all weights of a tiny base; with `stop_after`, in two goes."""
    folder.mkdir(exist_ok=True)
    settings = SETTINGS.model_copy(update={"optimiser": optimiser})
    done = 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        return done == stop_after

    for _ in range(2 if stop_after else 1):
        base = tiny_base("llama")
        full = attach_full(base)
        task = Task(
            name="run", base=base, adapter=full, objective=Sft(), train=examples(24), holdout=(),
            settings=settings, folder=folder, identity=optimiser,
        )  # fmt: skip
        try:
            train(task, lambda event: None, should_stop)
        except InterruptedRun:
            assert stop_after
    return {name: p.detach().clone() for name, p in full.parameters().items()}


def state_bytes(optimiser: torch.optim.Optimizer) -> int:
    states = (v for s in optimiser.state.values() for v in s.values() if isinstance(v, Tensor))
    return sum(v.nbytes for v in {v.data_ptr(): v for v in states}.values())


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    settings = TrainSettings(optimiser="adamw-8bit")
    with pytest.raises(MissingExtraError, match=r"train\.optimiser = .adamw-8bit") as caught:
        make_optimiser(attach_full(tiny_base("llama")), settings)
    assert "kamerton[bitsandbytes]" in str(caught.value.hint)


def test_eight_bits_come_near_and_resume_exactly(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    start = {n: p.detach() for n, p in tiny_base("llama").model.named_parameters()}
    wide = trained(tmp_path / "wide", "adamw")
    narrow = trained(tmp_path / "narrow", "adamw-8bit")

    def moved(weights: dict[str, Tensor]) -> Tensor:
        return torch.cat([(weights[name] - start[name]).flatten() for name in sorted(start)])

    assert not torch.equal(moved(narrow), moved(wide))
    assert torch.cosine_similarity(moved(narrow), moved(wide), dim=0) > 0.95
    assert float(moved(narrow).norm() / moved(wide).norm()) == pytest.approx(1, abs=0.1)
    in_two = trained(tmp_path / "two", "adamw-8bit", stop_after=2)
    assert all(torch.equal(in_two[name], narrow[name]) for name in narrow)


def test_eight_bit_states_are_small() -> None:
    pytest.importorskip("bitsandbytes")
    bits = {}
    for name in ("adamw", "adamw-8bit"):
        full = attach_full(tiny_base("llama"))
        optimiser = make_optimiser(full, TrainSettings(optimiser=name))
        for parameter in full.parameters().values():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        bits[name] = 8 * state_bytes(optimiser) / sum(p.numel() for p in full.parameters().values())
    assert 64 <= bits["adamw"] < 65
    # Two states of 8 bits, their blocks' largest values, and small tensors in 32 bits.
    assert 16 < bits["adamw-8bit"] < 26
