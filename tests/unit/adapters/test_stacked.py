"""Low-rank updates applied together give what one product per adapter gives."""

from functools import partial

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.routed import RoutedLinear
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from tests.shapes import tiny_base

KINDS = (
    *(LoraSettings(rank=rank) for rank in (2, 4, 16)),
    LoraSettings(rank=3, targets=("q_proj", "down_proj")),
    LoraSettings(rank=24, rank_stabilised=True),
    LoraSettings(rank=32, targets=("all-linear", "embeddings", "head")),
    LoraSettings(rank=4, dora=True),
    LoraSettings(rank=80),
    LoraSettings(rank=2, rank_pattern={"v_proj": 5}),
)
ROWS = (
    # Adapters of the segments, and their lengths.
    ([0, 1, 2, 3, -1, 4, 5, 6, 7, 8], [1] * 10),
    ([8, 5, -1, 0, 3, 4], [1] * 6),
    ([1, 2, 1, 1, 3, 0, -1], [1, 1, 1, 1, 2, 9, 3]),
    ([2, 8], [1, 1]),
    ([7, 6, 5, 4, 3, 2, 1, 0], [1] * 8),
)


def make(base: Base, number: int) -> Adapter:
    adapter = attach(base, KINDS[number], seed=number)
    generator = torch.Generator().manual_seed(number)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def filled(*, fixed: bool, dtype: torch.dtype = torch.float32) -> tuple[Base, AdapterSet]:
    base = tiny_base("llama", dtype=dtype)
    adapters = AdapterSet(base, fixed=fixed)
    for number in range(len(KINDS)):
        assert adapters.add(partial(make, base, number)) == number
    return base, adapters


@torch.no_grad()
def hidden(base: Base, numbers: list[int], lengths: list[int]) -> Tensor:
    segments, start = [], 0
    for number, length in zip(numbers, lengths, strict=True):
        segments.append(Segment(start, start + length, adapter=number))
        start += length
    ids = torch.arange(start) * 7 % 90 + 3
    return base.hidden(ids, Layout(tuple(segments)))


def test_rows_of_many_adapters_are_those_of_the_plain_loop() -> None:
    (fixed, adapters), (plain, loop) = filled(fixed=True), filled(fixed=False)
    for numbers, lengths in (*ROWS, *ROWS):
        found, wanted = hidden(fixed, numbers, lengths), hidden(plain, numbers, lengths)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert adapters._stacks._layers
    assert not loop._stacks._layers


def test_bf16_rounds_no_more_than_the_plain_loop() -> None:
    fixed, plain = (filled(fixed=fixed, dtype=torch.bfloat16)[0] for fixed in (True, False))
    exact = filled(fixed=False, dtype=torch.bfloat16)[0]
    exact.model.float()
    wanted = hidden(exact, *ROWS[0])

    def error(base: Base) -> float:
        return float((hidden(base, *ROWS[0]).float() - wanted).abs().mean())

    assert 0 < error(fixed) < 1.02 * error(plain) < 0.02 * float(wanted.abs().mean())
    for (path, _), stack in fixed_stacks(fixed).items():
        assert stack.a.dtype == stack.b.dtype == torch.float32, path


def fixed_stacks(base: Base) -> dict:
    routed = next(m for m in base.model.modules() if isinstance(m, RoutedLinear))
    return routed._stacks._layers


def test_an_adapter_in_the_place_of_another_is_not_taken_for_it() -> None:
    base, adapters = filled(fixed=True)
    before = hidden(base, [0, 1, 2], [1, 1, 1])
    adapters.remove(1)
    again = adapters.add(partial(make, base, 2))
    found = hidden(base, [0, again, 2], [1, 1, 1])
    torch.testing.assert_close(found[0], before[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[1], before[1], atol=1e-2)
    plain, loop = filled(fixed=False)
    assert loop.add(partial(make, plain, 2)) == again
    wanted = hidden(plain, [0, again, 2], [1, 1, 1])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_stack_is_as_large_as_what_stands_in_one_row() -> None:
    base, adapters = filled(fixed=True)
    for pair in ([0, 1], [1, 2], [2, 3], [3, 8], [8, 0]):
        hidden(base, pair, [1, 1])
    stacks = [stack for (_, ranks), stack in adapters._stacks._layers.items() if ranks == 16]
    assert {len(stack.held) for stack in stacks} == {2}
    hidden(base, [0, 1, 2, 3, 8], [1] * 5)
    hidden(base, [2, 3], [1, 1])
    assert len(adapters._stacks._held[16]) == 2
    for number in range(len(KINDS)):
        adapters.remove(number)
    assert not adapters._stacks._layers


def test_what_learns_is_not_stacked_and_fixed_adapters_do_not_learn() -> None:
    base, adapters = filled(fixed=False)
    first = hidden(base, [0, 1, 6], [1, 1, 1])
    for number in (0, 6):
        for parameter in adapters[number].parameters().values():
            parameter.data *= 1.5
    found = hidden(base, [0, 1, 6], [1, 1, 1])
    assert [torch.equal(a, b) for a, b in zip(found, first, strict=True)] == [False, True, False]
    _, fixed = filled(fixed=True)
    assert not any(p.requires_grad for n in range(2) for p in fixed[n].parameters().values())


@pytest.mark.parametrize("fixed", [True, False])
def test_gradients_reach_what_stands_before_a_fixed_adapter(fixed: bool) -> None:
    base, _ = filled(fixed=fixed)
    layout = Layout((Segment(0, 1, adapter=0), Segment(1, 2, adapter=1)))
    embedded = base.model.get_input_embeddings()(torch.tensor([5, 6])).detach().requires_grad_()
    states = base.run_backbone(layout, inputs_embeds=embedded[None])
    (grad,) = torch.autograd.grad(states.sum(), embedded)
    assert grad.abs().min(-1).values.gt(0).all()
