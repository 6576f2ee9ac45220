"""Common beginnings computed once: the same log-probabilities and gradients as without sharing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import attach
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering.tokenized import TokenizedExample, TokenizedPair
from kamerton.models.base import Base
from kamerton.models.rows.beginnings import branches, group_alike
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import Row, make_row, make_rows, num_labelled
from kamerton.training.memory import recompute_blocks
from tests.shapes import CONFIGS, VOCABULARY, tiny_base

ADAPTERS: dict[str, Any] = {
    "lora": LoraSettings(rank=4),
    "prefix": PrefixSettings(num_tokens=5, init="random"),
    "prompt": PromptTuningSettings(num_tokens=5, init="vocabulary"),
    "bottleneck": BottleneckSettings(),
    "ia3": Ia3Settings(),
}


def ids(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(3, VOCABULARY, length).astype(np.int32) for length in lengths]


def text(parts: list[np.ndarray], num_learned: int) -> TokenizedExample:
    joined = np.concatenate(parts)
    loss_mask = np.zeros(len(joined), np.bool_)
    loss_mask[-num_learned:] = True
    return TokenizedExample(joined, loss_mask)


def examples() -> list[Any]:
    """A system text before all; demonstrations before some; a pair; one that begins otherwise."""
    system, shots = ids(40, 24)
    own = ids(9, 12, 9, 30, 7, 11, 25, seed=1)
    pair = [text([system, own[4], answer], 5) for answer in ids(8, 6, seed=2)]
    return [
        text([system, own[0]], 4),
        text([system, shots, own[1]], 5),
        text([own[3]], 6),
        text([system, shots, own[2]], 3),
        TokenizedPair(len(system) + len(own[4]), pair[0], pair[1]),
        text([system, own[5]], 11),
        text([system, own[6]], 25),
    ]


def values_and_gradients(base: Base, row: Row, adapter: Any) -> tuple[Tensor, list[Tensor]]:
    logprobs = logprobs_of(base, row)
    weights = torch.linspace(0.5, 1.5, len(logprobs))
    parameters = list(adapter.parameters().values())
    return logprobs.detach(), list(torch.autograd.grad((logprobs * weights).sum(), parameters))


def assert_same(base: Base, adapter: Any, some: list[Any]) -> None:
    order = [index for group, _ in group_alike(some, 4096) for index in group]
    mine = [some[index] for index in order]
    shared, apart = (make_row(mine, base.device, shared=kind) for kind in (True, False))
    assert len(shared.ids) < 0.7 * len(apart.ids)
    assert torch.equal(shared.targets, apart.targets)
    ours, grads = values_and_gradients(base, shared, adapter)
    theirs, wanted = values_and_gradients(base, apart, adapter)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=3e-5)
    for found, right in zip(grads, wanted, strict=True):
        scale = right.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(found / scale, right / scale, rtol=0, atol=5e-5)


def stirred(base: Base, settings: Any) -> Any:
    adapter = attach(base, settings, 0)
    torch.manual_seed(derive_seed(0, "stirred"))
    for parameter in adapter.parameters().values():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return adapter


@pytest.mark.parametrize("shape", CONFIGS)
def test_it_is_the_same_on_every_shape(shape: str) -> None:
    base = tiny_base(shape)
    assert_same(base, stirred(base, LoraSettings(rank=4)), examples())


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("shape", ["llama", "gemma3"])
def test_it_is_the_same_with_every_adapter(shape: str, kind: str) -> None:
    base = tiny_base(shape)
    assert_same(base, stirred(base, ADAPTERS[kind]), examples())


def test_it_is_the_same_when_blocks_are_recomputed() -> None:
    base = tiny_base("llama")
    adapter = stirred(base, LoraSettings(rank=4))
    recompute_blocks(base, base.num_layers)
    adapter.train(True)
    assert_same(base, adapter, examples())


def test_a_model_on_padded_rows_computes_the_same() -> None:
    base = replace(tiny_base("llama"), ragged=False)
    assert_same(base, stirred(base, LoraSettings(rank=4)), examples())


def test_bf16_differs_no_more_than_bf16_does() -> None:
    base = tiny_base("llama", dtype=torch.bfloat16)
    adapter = stirred(base, LoraSettings(rank=4))
    some = examples()
    order = [index for group, _ in group_alike(some, 4096) for index in group]
    mine = [some[index] for index in order]
    exact = tiny_base("llama")
    exact_adapter = stirred(exact, LoraSettings(rank=4))
    wanted, _ = values_and_gradients(exact, make_row(mine, base.device), exact_adapter)
    errors = []
    for shared in (True, False):
        found, _ = values_and_gradients(base, make_row(mine, base.device, shared=shared), adapter)
        errors.append(float((found - wanted).abs().mean()))
    assert errors[0] < 1.5 * errors[1] + 1e-4


def test_the_tree_holds_what_is_common_once() -> None:
    some = examples()
    order = [index for group, _ in group_alike(some, 4096) for index in group]
    mine = [some[index] for index in order]
    tree = branches(mine)
    common = [branch for branch in tree if branch.stop is not None]
    assert [branch.stop for branch in common] == [40, 64]
    assert common[1].parent == tree.index(common[0])
    assert [branch.first for branch in tree if branch.stop is None] == list(range(len(mine)))
    row = make_row(mine, torch.device("cpu"))
    # system + demonstrations + what each has alone
    assert len(row.ids) == 40 + 24 + (9 + 12 + 9 + 30 + 11 + 25) + (7 + 8 + 6)


def test_short_beginnings_are_computed_again() -> None:
    system, *own = ids(15, 6, 7)
    assert all(branch.stop is None for branch in branches([text([system, o], 2) for o in own]))


def test_what_is_learned_is_never_shared() -> None:
    (same,) = ids(60)
    learned_late, learned_early = text([same], 10), text([same], 40)
    common = [b for b in branches([learned_late, learned_early]) if b.stop is not None]
    assert [branch.stop for branch in common] == [20]
    row = make_row([learned_late, learned_early], torch.device("cpu"))
    assert len(row.at) == 50


@pytest.mark.parametrize("limit", [60, 100, 4096])
def test_rows_hold_every_example_once(limit: int) -> None:
    some = examples() + examples()
    rows = make_rows(some, limit, torch.device("cpu"))
    assert sorted(member for row in rows for member in row.members) == list(range(len(some)))
    assert sum(len(row.at) for row in rows) == num_labelled(some)
    if limit == 100:
        assert all(len(row.ids) <= limit for row in rows)


def test_without_common_beginnings_rows_are_as_before() -> None:
    some = [text([one], 3) for one in ids(30, 9, 14, 9, 22)]
    (row,) = make_rows(some, 4096, torch.device("cpu"))
    assert row.members == (0, 4, 2, 1, 3)
    assert all(segment.parent < 0 for segment in row.layout.segments)
