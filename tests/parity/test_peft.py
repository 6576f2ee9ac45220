"""Our LoRA files in PEFT and PEFT's in ours: the same logits."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from kamerton.adapters.lora import LoraSettings, attach_lora, load_lora
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.layout import Layout
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import tiny_base

SHAPES = ["llama", "qwen3", "gemma3", "gpt2", "phi3"]


def our_logits(base: Base, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def peft_logits(model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0].float()


def plain_model(shape: str):
    """The same weights as `tiny_base`, with Transformers' own attention."""
    model = tiny_base(shape).model
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(rank=4, alpha=6),
        LoraSettings(rank=8, rank_stabilised=True, layers="0-1"),
    ],
    ids=["all", "rslora-two-layers"],
)
def test_peft_loads_ours(shape: str, settings: LoraSettings, tmp_path: Path) -> None:
    base = tiny_base(shape)
    ids = random_ids(33)
    before = our_logits(base, ids)
    lora = attach_lora(base, settings, seed=3)
    assert torch.equal(our_logits(base, ids), before)
    for name, parameter in lora.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ours = our_logits(base, ids)
    assert not torch.allclose(ours, before, atol=1e-3)
    for name, content in lora.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path)
    torch.testing.assert_close(ours, peft_logits(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_we_load_peft(shape: str, use_rslora: bool, tmp_path: Path) -> None:
    config = LoraConfig(
        r=4, lora_alpha=12, target_modules="all-linear", use_rslora=use_rslora,
        init_lora_weights=False, task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(plain_model(shape), config).eval()
    model.save_pretrained(tmp_path)
    ids = random_ids(33)
    base = tiny_base(shape)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    lora = load_lora(base, files)
    torch.testing.assert_close(our_logits(base, ids), peft_logits(model, ids), rtol=1e-4, atol=1e-4)
    lora.detach()
    assert torch.equal(our_logits(base, ids), our_logits(tiny_base(shape), ids))


def test_what_peft_can_and_we_cannot_is_refused(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
    get_peft_model(plain_model("llama"), config).save_pretrained(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(AdapterError, match="use_dora"):
        load_lora(tiny_base("llama"), files)


def test_an_adapter_of_another_base_is_refused() -> None:
    files = attach_lora(tiny_base("gpt2"), LoraSettings(rank=4), seed=0).files()
    with pytest.raises(AdapterError, match="another base|not linear layers"):
        load_lora(tiny_base("llama"), files)
    files = attach_lora(tiny_base("qwen3"), LoraSettings(rank=4), seed=0).files()
    config = json.loads(files["adapter_config.json"]) | {"r": 5}
    with pytest.raises(AdapterError, match="must be"):
        load_lora(tiny_base("llama"), files | {"adapter_config.json": json.dumps(config).encode()})
