"""Bottlenecks in a row: what they compute, what is stored, what is refused."""

import json

import pytest
import torch
from torch import Tensor

from kamerton.adapters.bottleneck.bottleneck import (
    Bottleneck,
    BottleneckSettings,
    attach_bottleneck,
)
from kamerton.adapters.bottleneck.stack import BottleneckStack
from kamerton.adapters.catalogue import combine, load
from kamerton.adapters.combine import CombineSettings
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from tests.contract.test_adapters import logits, loss_of, same, snapshot
from tests.shapes import tiny_base

SETTINGS = (
    BottleneckSettings(placement="pfeiffer", reduction=4),
    BottleneckSettings(placement="houlsby", reduction=8, activation="gelu"),
)


def filled(base: Base, number: int) -> Bottleneck:
    adapter = attach_bottleneck(base, SETTINGS[number], seed=number)
    generator = torch.Generator().manual_seed(number)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def files_of(number: int) -> dict[str, bytes]:
    return filled(tiny_base("llama"), number).files()


def stack(*numbers: int, weights: tuple[float, ...] = ()) -> dict[str, bytes]:
    settings = CombineSettings(how="stack", weights=weights)
    return combine("bottleneck", [files_of(number) for number in numbers], settings).files


def both(first: int, second: int) -> Tensor:
    """Logits with one attached after the other."""
    base = tiny_base("llama")
    filled(base, first)
    filled(base, second)
    return logits(base)


def test_the_second_reads_what_the_first_made() -> None:
    base = tiny_base("llama")
    start, state = logits(base), snapshot(base)
    loaded = load(base, "bottleneck", stack(0, 1))
    assert isinstance(loaded, BottleneckStack)
    found = logits(base)
    assert torch.equal(found, both(0, 1))
    assert (found - both(1, 0)).abs().max() > 1e-3
    with loaded.disabled():
        assert torch.equal(logits(base), start)
    files = loaded.files()
    assert files == stack(0, 1)
    loaded.detach()
    assert torch.equal(logits(base), start)
    assert same(snapshot(base), state)


def test_all_of_it_can_learn_on() -> None:
    base = tiny_base("llama")
    loaded = load(base, "bottleneck", stack(0, 1))
    parameters = loaded.parameters()
    assert {name.split(".")[0] for name in parameters} == {"0", "1"}
    before = loss_of(base)
    before.backward()
    torch.optim.SGD(parameters.values(), lr=1e-2).step()
    with torch.no_grad():
        assert loss_of(base) < before


def test_weights_are_factors_and_stacks_are_flat() -> None:
    base = tiny_base("llama")
    load(base, "bottleneck", stack(0, 1, weights=(1.0, 0.0001)))
    alone = tiny_base("llama")
    filled(alone, 0)
    assert (logits(base) - logits(alone)).abs().max() < 1e-2
    twice = combine("bottleneck", [stack(0, 1), files_of(1)], CombineSettings(how="stack"))
    assert twice.facts == {"members": 3}
    assert [sorted(one) for one in json.loads(twice.files["bottleneck.json"])["stack"]]
    assert isinstance(load(tiny_base("llama"), "bottleneck", twice.files), BottleneckStack)


def test_what_does_not_fit_leaves_nothing_behind() -> None:
    files = stack(0, 1)
    for shape in ("gpt2", "phi3"):
        base = tiny_base(shape)
        before = logits(base)
        with pytest.raises(AdapterError, match="made for"):
            load(base, "bottleneck", files)
        assert torch.equal(logits(base), before)
    base = tiny_base("llama")
    before = logits(base)
    config = json.loads(files["bottleneck.json"])
    for damage in ([], 1, config["stack"][:1], [*config["stack"], {}]):
        with pytest.raises(AdapterError):
            changed = json.dumps({"stack": damage}).encode()
            load(base, "bottleneck", {**files, "bottleneck.json": changed})
        assert torch.equal(logits(base), before)
    with pytest.raises(AdapterError, match="must not be negative"):
        stack(0, 1, weights=(1.0, -1.0))
