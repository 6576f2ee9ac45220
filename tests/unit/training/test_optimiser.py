"""The optimiser: states in 8 bits or of low rank come near AdamW's, are small, resume exactly."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from kamerton.training.rows import make_rows
from torch import Tensor

from kamerton.adapters.full import attach_full
from kamerton.core.errors import InterruptedRun, MissingExtraError, SettingsError
from kamerton.objectives.sft import Sft
from kamerton.training.apollo import Apollo
from kamerton.training.loop import train
from kamerton.training.optimiser import make_optimiser, optimiser_bytes
from kamerton.training.scoring import logprobs_of
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from tests.shapes import tiny_base
from tests.unit.training.test_loop import examples

SETTINGS = TrainSettings(
    epochs=2, tokens_per_step=64, learning_rate=3e-3, warmup=0.03, threads=1, checkpoint_every_s=0
)


def trained(folder: Path, optimiser: str, stop_after: int = 0) -> dict[str, Tensor]:
    """Train all weights of a tiny base; with `stop_after`, in two goes."""
    folder.mkdir(exist_ok=True)
    settings = SETTINGS.model_copy(update={"optimiser": optimiser, "apollo_rank": 8})
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


@pytest.mark.parametrize("optimiser", ["adamw", "apollo"])
def test_a_base_in_bf16_computes_with_the_weights_of_the_last_step(optimiser: str) -> None:
    """A fused step changes weights without PyTorch's counting it; the rounded ones follow."""
    base = tiny_base("llama", dtype=torch.bfloat16)
    full = attach_full(base)
    weight = full.parameters()["lm_head.weight"]
    settings = SETTINGS.model_copy(update={"optimiser": optimiser, "state_rank": 8})
    made = make_optimiser(full, settings)
    for _ in range(2):
        before = weight.detach().clone()
        logprobs_of(base, make_rows(examples(1), 64, base.device)[0]).sum().backward()
        made.step()
        assert not torch.equal(weight, before)
        base.before_head()
        assert torch.equal(base.head.weight, weight.to(torch.bfloat16))


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    settings = TrainSettings(optimiser="adamw-8bit", learning_rate=2e-4)
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
        optimiser = make_optimiser(full, TrainSettings(optimiser=name, learning_rate=2e-4))
        for parameter in full.parameters().values():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        bits[name] = 8 * state_bytes(optimiser) / sum(p.numel() for p in full.parameters().values())
    assert 64 <= bits["adamw"] < 65
    # Two states of 8 bits, their blocks' largest values, and small tensors in 32 bits.
    assert 16 < bits["adamw-8bit"] < 26


@pytest.mark.parametrize("name", ["adamw", "apollo", "adamw-8bit"])
def test_gradients_and_states_are_predicted(name: str) -> None:
    if name == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    full = attach_full(tiny_base("llama"))
    parameters = list(full.parameters().values())
    settings = TrainSettings(optimiser=name, apollo_rank=8, learning_rate=2e-4)
    optimiser = make_optimiser(full, settings)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    real = state_bytes(optimiser) + sum(p.grad.nbytes for p in parameters)
    predicted = optimiser_bytes(parameters, settings, "cpu")
    assert real == pytest.approx(predicted, rel=0.03)
    if name == "adamw":
        assert predicted == 12 * sum(p.numel() for p in parameters)


def test_paged_states_are_not_on_the_gpu() -> None:
    tensor, settings = [torch.empty(64, 64)], TrainSettings(optimiser="paged-adamw-8bit")
    assert optimiser_bytes(tensor, settings, "cuda") == 4 * 64 * 64


def test_paged_states_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="there is no GPU here"):
        make_optimiser(attach_full(tiny_base("llama")), TrainSettings(optimiser="paged-adamw-8bit"))


def stepped(make, grads: list[Tensor], start: Tensor) -> Tensor:
    parameter = torch.nn.Parameter(start.clone())
    optimiser = make([parameter])
    for grad in grads:
        parameter.grad = grad.clone()
        optimiser.step()
    return parameter.detach()


def apollo(parameters, rank: int, lr: float = 0.01) -> Apollo:
    return Apollo(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.1, rank=rank)


def test_apollo_is_adamw_where_the_rank_saves_nothing() -> None:
    torch.manual_seed(0)
    for size in ((6, 9), (7,)):
        start, grads = torch.randn(size), [torch.randn(size) for _ in range(5)]
        ours = stepped(lambda p: apollo(p, rank=6), grads, start)
        theirs = stepped(
            lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
            grads,
            start,
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_apollos_first_step_is_its_formula(size: tuple[int, int]) -> None:
    """Moments of one gradient are its signs, so channels move by sqrt(m) / |P g|."""
    torch.manual_seed(0)
    start, grad = torch.randn(size), torch.randn(size)
    moved = stepped(lambda p: apollo(p, rank=16), [grad], start) - start * (1 - 0.01 * 0.1)
    seen = grad if size[0] < size[1] else grad.t()
    moved = moved if size[0] < size[1] else moved.t()
    factors = -(moved * seen).sum(0) / (0.01 * seen.square().sum(0))
    # One factor per channel, near what AdamW's step of 1 per number amounts to.
    torch.testing.assert_close(moved, -0.01 * seen * factors, rtol=1e-3, atol=1e-5)
    wanted = 64**0.5 / seen.norm(dim=0)
    assert float((factors / wanted).log().abs().mean()) < 0.3
    assert float((factors / wanted).mean()) == pytest.approx(1, abs=0.2)


def test_apollos_updates_grow_slowly() -> None:
    torch.manual_seed(0)
    start = torch.zeros(64, 96)
    parameter = torch.nn.Parameter(start)
    optimiser = apollo([parameter], rank=8)
    norms = []
    for number in range(6):
        before = parameter.detach().clone()
        parameter.grad = torch.randn(64, 96) * (100.0**number)
        optimiser.step()
        norms.append(float((parameter.detach() - before * (1 - 0.001)).norm()))
    assert all(b <= 1.0101 * a for a, b in pairwise(norms))


def test_apollo_learns_with_little_and_resumes_exactly(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "apollo")
    start = {n: p.detach() for n, p in tiny_base("llama").model.named_parameters()}
    wide = trained(tmp_path / "wide", "adamw")
    ours, theirs = (
        torch.cat([(weights[name] - start[name]).flatten() for name in sorted(start)])
        for weights in (whole, wide)
    )
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.5
    assert 0.3 < float(ours.norm() / theirs.norm()) < 2
    in_two = trained(tmp_path / "two", "apollo", stop_after=2)
    assert all(torch.equal(in_two[name], whole[name]) for name in whole)
    full = attach_full(tiny_base("llama"))
    optimiser = make_optimiser(
        full, TrainSettings(optimiser="apollo", apollo_rank=4, learning_rate=2e-4)
    )
    for parameter in full.parameters().values():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    count = sum(p.numel() for p in full.parameters().values())
    # Two states of 4 rows for each matrix of 32 to 97.
    assert 8 * state_bytes(optimiser) / count < 8
