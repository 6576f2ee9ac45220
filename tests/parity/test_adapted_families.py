"""Adapters over families that use their layers in their own ways: gradients of the plain model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.adapters.virtual.prompt import PromptTuningSettings, attach_prompt
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.load import prepare_model
from tests.families import VOCABULARY, build

IDS = torch.randint(4, VOCABULARY, (14,), generator=torch.Generator().manual_seed(3))


def base_of(model: Any, name: str) -> Base:
    notice = prepare_model(model)
    identity = BaseIdentity(name, Path(), "", "", "", type(model).__name__, 1, VOCABULARY)
    return Base(model, None, identity, ragged=notice is None, notice=notice)


def updated(a: Tensor, b: Tensor) -> Any:
    """What PEFT's layer does, as a hook: A and B come beside the layer's own output."""
    return lambda layer, inputs, output: output + inputs[0] @ a.t() @ b.t()


@pytest.mark.parametrize("name", ["llama4_text", "mamba", "falcon"])
def test_gradients_are_those_of_hooks_on_the_plain_model(name: str) -> None:
    # Llama 4 scales queries in place; Mamba reads the bias and the weight of a layer; Falcon's
    # layers have a forward pass of their own.
    model = build(name)
    plain = copy.deepcopy(model).requires_grad_(False)
    base = base_of(model, name)
    lora = attach_lora(base, LoraSettings(rank=2, alpha=2), seed=0)
    torch.manual_seed(1)
    own = lora.parameters()
    for parameter in own.values():
        parameter.data += 0.05 * torch.randn_like(parameter)
    apart = {key: p.detach().clone().requires_grad_() for key, p in own.items()}
    for path in lora.layers:
        a, b = (apart[f"base_model.model.{path}.lora_{which}.weight"] for which in "AB")
        plain.get_submodule(path).register_forward_hook(updated(a, b))
    found = base.head.logits(base.hidden(IDS, Layout.of_lengths([len(IDS)])))
    wanted = plain(input_ids=IDS[None], use_cache=False).logits[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
    ours, theirs = (
        torch.autograd.grad(logits.log_softmax(-1).square().sum(), list(tensors.values()))
        for logits, tensors in ((found, own), (wanted, apart))
    )
    for mine, reference in zip(ours, theirs, strict=True):
        assert reference.abs().max() > 0
        torch.testing.assert_close(mine, reference, rtol=1e-2, atol=1e-3 * reference.abs().max())


def test_a_layer_that_mamba_never_calls_gets_no_adapter() -> None:
    base = base_of(build("mamba"), "mamba")
    with pytest.raises(AdapterError, match="'dt_proj' matches no linear layer"):
        attach_lora(base, LoraSettings(targets=["dt_proj"]), seed=0)


def test_soft_prompts_are_refused_where_layers_look_tokens_up() -> None:
    base = base_of(build("gemma4_text"), "gemma4_text")
    settings = PromptTuningSettings(num_virtual_tokens=3, init="vocabulary")
    with pytest.raises(AdapterError, match="takes no embeddings in the place of tokens"):
        attach_prompt(base, settings, seed=0)
