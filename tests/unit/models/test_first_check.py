"""A base that is loaded says what its untouched model says, or is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from kamerton.core.errors import ModelError
from kamerton.models import load
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.first_check import choose_forward, read_untouched
from kamerton.models.fused import _RmsNorm
from kamerton.models.load import load_base, prepare_model, wrap_model
from tests.families import build, shrink
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import VOCABULARY, plain_model

NANO = Path(load.__file__).parent / "nano"


def made(model: Any, damage: Any = None) -> Base:
    """Make a base of a model the way it is loaded; damage what was put into it."""
    reference = read_untouched(model)
    assert reference is not None
    notice = prepare_model(model)
    if damage is not None:
        damage(model)
    identity = BaseIdentity("tiny", Path(), "", "", "", type(model).__name__, 1, VOCABULARY)
    base = Base(model, None, identity, ragged=notice is None, notice=notice)
    choose_forward(base, reference)
    return base


def says_the_same(base: Base, model: Any) -> bool:
    ids = random_ids(20)
    with torch.no_grad():
        found = base.head.logits(base.hidden(ids, Layout.of_lengths([20]))).log_softmax(-1)
        wanted = model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
    share = float((found - wanted).abs().mean() / wanted.std())
    return share < (1e-4 if base.dtype == torch.float32 else 0.1)


def gemma_with_norms(mean: float) -> Any:
    model = plain_model("gemma3")
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=mean, std=mean / 8)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_weights_of_norms_are_right(dtype: torch.dtype) -> None:
    model = gemma_with_norms(mean=25.0).to(dtype)
    base = made(copy.deepcopy(model))
    assert {m.offset for m in base.model.modules() if isinstance(m, _RmsNorm)} == {1.0}
    assert says_the_same(base, model)


def test_wrong_norms_are_seen_in_bf16_and_the_models_own_are_used() -> None:
    model = gemma_with_norms(mean=1.0).bfloat16()

    def no_offset(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, _RmsNorm):
                module.offset = 0.0

    base = made(copy.deepcopy(model), no_offset)
    assert not base.ragged
    assert says_the_same(base, model)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nemotron", "fail"),  # its attention does not hand the layout on
        ("diffllama", "more than once in layer"),
        ("falcon_h1", "does not go through"),
        ("roberta", "differ"),  # counts positions from the start of the row
    ],
)
def test_what_packed_rows_cannot_do_is_padded(name: str, reason: str) -> None:
    model = build(name)
    base = made(copy.deepcopy(model))
    assert not base.ragged
    assert reason in str(base.notice)
    assert says_the_same(base, model)


def test_a_window_longer_than_the_check_is_seen() -> None:
    """Llama 4 sees chunks of 8192 tokens by its mask alone, which packed rows have none of."""
    config = shrink("llama4_text")
    config.attention_chunk_size = 8192
    base = made(AutoModelForCausalLM.from_config(config).eval())
    assert not base.ragged
    assert base.model.config.attention_chunk_size == 8192


def test_windows_are_as_before() -> None:
    base = made(plain_model("mistral"))
    assert base.ragged
    assert base.model.config.sliding_window == plain_model("mistral").config.sliding_window


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    config = shrink("bert")
    config.is_decoder = False
    with pytest.raises(ModelError, match="BertLMHeadModel is not supported"):
        made(AutoModelForCausalLM.from_config(config).eval())


def test_damaged_weights_are_refused() -> None:
    model = plain_model("llama")
    model.model.layers[1].mlp.up_proj.weight[3] = float("nan")
    with pytest.raises(ModelError, match="no finite logits in float32"):
        made(model)


def test_a_check_costs_two_passes_and_one_backwards() -> None:
    """The model reads a row before it is touched; the packed row is compared and learned from."""
    model = plain_model("llama")
    passes = []

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        passes.append("forwards")
        if output.requires_grad:
            output.register_hook(lambda slope: passes.append("backwards"))

    model.model.layers[0].register_forward_hook(count)
    base = made(model)
    assert base.ragged
    assert passes == ["forwards", "forwards", "backwards"]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_packed_rows_without_a_gradient_are_padded() -> None:
    model = plain_model("llama")
    base = made(copy.deepcopy(model), lambda model: cut_when_packed(model.model.layers[0]))
    assert not base.ragged
    assert "no gradient comes back" in str(base.notice)
    assert says_the_same(base, model)


def cut_when_packed(block: nn.Module) -> None:
    """Let a block hand no gradient back in a packed row, though its numbers are right."""

    def cut(module: nn.Module, inputs: object, named: dict[str, Any], output: Any) -> Any:
        return output.detach() if "layout" in named else output

    block.register_forward_hook(cut, with_kwargs=True)


def test_every_base_is_checked_as_it_is_loaded(monkeypatch) -> None:
    """Through the one function that all verbs load a base with."""
    seen = []
    monkeypatch.setattr(load, "choose_forward", lambda base, reference: seen.append(reference))
    load_base("builtin:nano")
    assert len(seen) == 1
    assert seen[0].logprobs.shape[0] == len(seen[0].ids)
    load_base("builtin:nano", quantise="nf4")
    assert len(seen) == 2
    load_base("builtin:nano", weights=False)
    assert len(seen) == 2


def test_a_loaded_model_is_refused_in_one_line() -> None:
    config = shrink("xlnet")
    model = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = load_base("builtin:nano").tokenizer
    with pytest.raises(ModelError, match="XLNetLMHeadModel is not supported") as caught:
        wrap_model(model, tokenizer, name="tiny", folder=NANO)
    assert "\n" not in str(caught.value)
