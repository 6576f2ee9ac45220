"""A score head beside an adapter: on and off together, stored and read back."""

import pytest
import torch

from kamerton.adapters.adapter_files import tensor_bytes
from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.with_score_head import SCORE_HEAD_FILE, WithScoreHead, with_head
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from tests.shapes import tiny_base


@pytest.fixture
def base() -> Base:
    return tiny_base("llama")


def headed(base: Base, num_scores: int = 1) -> WithScoreHead:
    return with_head(
        base, attach(base, LoraSettings(lora_plus_ratio=4.0), seed=1), num_scores, seed=2
    )


def filled(base: Base) -> WithScoreHead:
    made = headed(base, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters().values():
            parameter += torch.randn_like(parameter)
    return made


def test_one_number_begins_as_zero_and_several_do_not(base: Base) -> None:
    hidden = torch.randn(4, headed(base).head.weight.shape[1])
    assert base.score_head is not None
    assert torch.equal(base.score_head.scores(hidden), torch.zeros(4, 1))
    several = headed(tiny_base("llama"), 8).head.scores(hidden)
    assert several.shape == (4, 8)
    assert several.norm(dim=1).min() > 0.1


def test_a_disabled_adapter_has_no_head(base: Base) -> None:
    adapter = headed(base)
    with adapter.disabled():
        assert base.score_head is None
    assert base.score_head is adapter.head
    adapter.detach()
    assert base.score_head is None


def test_files_hold_the_adapter_and_the_head(base: Base) -> None:
    adapter = filled(base)
    files = adapter.files()
    other = tiny_base("llama")
    again = load(other, "lora", files)
    assert isinstance(again, WithScoreHead)
    for name, parameter in adapter.parameters().items():
        torch.testing.assert_close(again.parameters()[name], parameter)
    assert other.score_head is again.head


def test_the_head_learns_at_the_plain_rate(base: Base) -> None:
    adapter = headed(base)
    factors = {name: adapter.rate_factor(name) for name in adapter.parameters()}
    assert factors["score_head.weight"] == factors["score_head.bias"] == 1.0
    assert max(factors.values()) == 4.0


@pytest.mark.parametrize(
    "tensors",
    [
        {"score_head.weight": torch.zeros(1, 5), "score_head.bias": torch.zeros(1)},
        {"score_head.weight": torch.zeros(1, 5)},
    ],
    ids=["another size", "no bias"],
)
def test_a_strange_head_is_refused_and_nothing_stays_attached(
    base: Base, tensors: dict[str, torch.Tensor]
) -> None:
    files = {**filled(tiny_base("llama")).files(), SCORE_HEAD_FILE: tensor_bytes(tensors)}
    before = [type(module) for module in base.model.modules()]
    with pytest.raises(AdapterError, match=SCORE_HEAD_FILE):
        load(base, "lora", files)
    assert base.score_head is None
    assert [type(module) for module in base.model.modules()] == before
