"""Prefix-tuning and prompt tuning against PEFT: files in both directions, values, gradients."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor

from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model, tiny_base

SHAPES = ["llama", "qwen3", "gemma3", "gpt2", "phi3"]
LENGTHS = (9, 4, 17, 9)
"""Texts in a row; some longer than the sliding window, with and without the virtual tokens."""
LAYOUT = Layout.of_lengths(LENGTHS)
SETTINGS = [
    PrefixSettings(num_virtual_tokens=5),
    PrefixSettings(num_virtual_tokens=12, init="random"),
    PrefixSettings(num_virtual_tokens=5, network=7),
    PromptTuningSettings(num_virtual_tokens=5),
    PromptTuningSettings(num_virtual_tokens=12, init="vocabulary"),
]
NAMES = ["prefix", "long-prefix", "network", "prompt", "long-prompt"]


def our_logits(base: Base, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return base.head.logits(base.hidden(ids, LAYOUT))


def peft_logits(model: Any, ids: Tensor) -> Tensor:
    """Each text in a row of its own, without what prompt tuning puts before it."""
    with torch.no_grad():
        parts = [
            model(input_ids=text[None], attention_mask=torch.ones_like(text[None])).logits[0]
            for text in ids.split(LENGTHS)
        ]
    return torch.cat([part[-n:] for part, n in zip(parts, LENGTHS, strict=True)]).float()


def stir(adapter: Any) -> None:
    """Move an adapter away from where it began."""
    torch.manual_seed(5)
    for parameter in adapter.parameters().values():
        parameter.data += 0.3 * torch.randn_like(parameter)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_peft_loads_ours(shape: str, settings: Any, tmp_path: Path) -> None:
    base = tiny_base(shape)
    ids = random_ids(sum(LENGTHS))
    plain = our_logits(base, ids)
    adapter = attach(base, settings, seed=3, opening=range(20, 40))
    stir(adapter)
    ours = our_logits(base, ids)
    assert not torch.allclose(ours, plain, atol=1e-3)
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path)
    torch.testing.assert_close(ours, peft_logits(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "config",
    [
        PrefixTuningConfig(num_virtual_tokens=6, task_type="CAUSAL_LM"),
        PrefixTuningConfig(
            num_virtual_tokens=6, task_type="CAUSAL_LM", prefix_projection=True,
            encoder_hidden_size=10,
        ),
        PromptTuningConfig(num_virtual_tokens=6, task_type="CAUSAL_LM"),
    ],
    ids=["prefix", "projected", "prompt"],
)  # fmt: skip
def test_we_load_peft(shape: str, config: Any, tmp_path: Path) -> None:
    torch.manual_seed(2)
    # PEFT writes the model's sizes into the configuration.
    model = get_peft_model(plain_model(shape), replace(config)).eval()
    model.save_pretrained(tmp_path)
    ids = random_ids(sum(LENGTHS))
    base = tiny_base(shape)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    kind = "prompt" if config.peft_type == "PROMPT_TUNING" else "prefix"
    adapter = load(base, kind, files)
    torch.testing.assert_close(our_logits(base, ids), peft_logits(model, ids), rtol=1e-4, atol=1e-4)
    again = adapter.files()["adapter_model.safetensors"]
    adapter.detach()
    assert torch.equal(our_logits(base, ids), our_logits(tiny_base(shape), ids))
    theirs = load(base, kind, {**files, "adapter_model.safetensors": again})
    assert theirs.files()["adapter_model.safetensors"] == again


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3]], ids=["prefix", "prompt"])
def test_gradients_in_packed_rows_equal_those_of_peft(
    shape: str, settings: Any, tmp_path: Path
) -> None:
    base = tiny_base(shape)
    ids = random_ids(sum(LENGTHS))
    adapter = attach(base, settings, seed=3, opening=range(20, 40))
    stir(adapter)
    starts = {segment.start for segment in LAYOUT.segments}
    at = torch.tensor([t - 1 for t in range(len(ids)) if t not in starts])
    logprobs = token_logprobs(base.hidden(ids, LAYOUT)[at], ids[at + 1], base.head)
    named = adapter.parameters()
    ours = dict(zip(named, torch.autograd.grad(-logprobs.sum(), list(named.values())), strict=True))

    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path)
    weight = model.prompt_encoder["default"].embedding.weight.requires_grad_()
    for text in ids.split(LENGTHS):
        row = text[None]
        logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, -len(text) :]
        torch.nn.functional.cross_entropy(logits[:-1], text[1:], reduction="sum").backward()
    theirs = weight.grad
    if settings.kind == "prefix":
        num_layers = base.num_layers
        theirs = theirs.unflatten(1, (2 * num_layers, -1, named["layers.0.keys"].shape[2]))
        by_name = {}
        for number in range(num_layers):
            by_name[f"layers.{number}.keys"] = theirs[:, 2 * number].transpose(0, 1)
            by_name[f"layers.{number}.values"] = theirs[:, 2 * number + 1].transpose(0, 1)
    else:
        by_name = {"prompt_embeddings": theirs}
    assert by_name.keys() == ours.keys()
    for name, gradient in ours.items():
        scale = by_name[name].abs().max()
        assert scale > 0, name
        torch.testing.assert_close(gradient / scale, by_name[name] / scale, rtol=0, atol=2e-5)


def test_kinds_are_not_mixed_up() -> None:
    base = tiny_base("llama")
    adapter = attach(base, SETTINGS[0], seed=3, opening=range(20, 40))
    files = adapter.files()
    adapter.detach()
    with pytest.raises(AdapterError, match="PROMPT_TUNING"):
        load(base, "prompt", files)
    with pytest.raises(AdapterError, match="LORA"):
        load(base, "lora", files)
