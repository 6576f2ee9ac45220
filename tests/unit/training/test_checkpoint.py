"""Checkpoints: what an optimiser keeps comes back where it keeps it; large ones are rarer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.training.checkpoint import optimiser_tensors, pause_after, restore_optimiser


class CountsBeside(torch.optim.Optimizer):
    """Keeps its step counts where a device's name says, as fused and plain AdamW differ."""

    def __init__(self, parameters: Any, where: str) -> None:
        super().__init__(parameters, {"lr": 0.1})
        self.where = where

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    count = torch.zeros((), device=self.where)
                    self.state[p] = {"step": count, "exp_avg": torch.zeros_like(p), "calls": 0}
                self.state[p]["step"] += 1
                self.state[p]["calls"] += 1
                self.state[p]["exp_avg"].lerp_(p.grad, 0.1)
                p.add_(self.state[p]["exp_avg"], alpha=-group["lr"])


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_states_come_back_to_their_own_devices(where: str) -> None:
    """The "meta" device stands for a GPU: what is kept there must not come back to the CPU."""
    weight = torch.nn.Parameter(torch.ones(3, device="meta"))
    saved = {
        "w/step": torch.tensor(7.0),
        "w/exp_avg": torch.ones(3),
        "w/calls:int": torch.tensor(7),
    }
    fresh = CountsBeside([weight], where)
    restore_optimiser(fresh, {"w": weight}, saved)
    state = fresh.state[weight]
    assert (state["step"].device.type, state["exp_avg"].device.type) == (where, "meta")
    assert state["calls"] == 7
    assert where == "meta" or float(state["step"]) == 7.0


def stepped(optimiser: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter]) -> None:
    # The last parameter never has a gradient, and so no state.
    for number, parameter in enumerate(list(parameters.values())[:-1]):
        parameter.grad = torch.full_like(parameter, 0.5 + number)
    optimiser.step()


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_optimiser_goes_on_as_before(fused: bool) -> None:
    def made() -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
        named = {name: torch.nn.Parameter(torch.full((2, 2), 1.5)) for name in ("a", "a/b", "c")}
        return named, torch.optim.AdamW(named.values(), lr=0.1, weight_decay=0.1, fused=fused)

    named, optimiser = made()
    stepped(optimiser, named)
    names: dict[Tensor, str] = {p: name for name, p in named.items()}
    kept = {key: t.clone() for key, t in optimiser_tensors(optimiser, names).items()}
    again, fresh = made()
    restore_optimiser(fresh, again, kept)
    assert fresh.param_groups[0]["lr"] == 0.1
    assert again["c"] not in fresh.state
    assert all(parameter.grad is None for parameter in again.values())
    for name, parameter in again.items():
        parameter.data.copy_(named[name])
    stepped(optimiser, named)
    stepped(fresh, again)
    for name, parameter in named.items():
        assert torch.equal(parameter, again[name])


@pytest.mark.parametrize(
    ("took_s", "every_s", "pause_s"),
    [(0.1, 30.0, 30.0), (10.0, 30.0, 190.0), (10.0, 0.0, 0.0)],
)
def test_saving_takes_a_twentieth_of_the_time(took_s, every_s, pause_s) -> None:
    assert pause_after(took_s, every_s) == pytest.approx(pause_s)
    assert every_s == 0 or took_s / (took_s + pause_s) <= 0.05
