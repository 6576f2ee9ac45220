"""Our IA3 files in PEFT and PEFT's in ours: the same logits, the same gradients, merged too."""

import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config, PeftModel, get_peft_model
from torch import Tensor

from kamerton.adapters.ia3 import Ia3, Ia3Settings, attach_ia3, load_ia3
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model, tiny_base

# What each model's keys, values and down-projections are called.
PARTS = {
    "llama": (("k_proj", "v_proj"), "down_proj"),
    "qwen3": (("k_proj", "v_proj"), "down_proj"),
    "gemma3": (("k_proj", "v_proj"), "down_proj"),
    "gpt2": (("attn.c_attn",), "mlp.c_proj"),
    "phi3": (("qkv_proj",), "down_proj"),
}


def our_logits(base: Base, ids: Tensor) -> Tensor:
    return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def peft_logits(model, ids: Tensor) -> Tensor:
    return model(input_ids=ids[None]).logits[0].float()


def scrambled(adapter: Ia3) -> Ia3:
    generator = torch.Generator().manual_seed(5)
    for parameter in adapter.parameters().values():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return adapter


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("shape", list(PARTS))
@pytest.mark.parametrize("layers", ["all", "0,2"])
def test_peft_loads_ours(shape: str, layers: str, tmp_path: Path) -> None:
    base, ids = tiny_base(shape), random_ids(33)
    before = our_logits(base, ids)
    adapter = scrambled(attach_ia3(base, Ia3Settings(layers=layers)))
    ours = our_logits(base, ids)
    assert not torch.allclose(ours, before, atol=1e-3)
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path, is_trainable=True).eval()
    theirs = peft_logits(model, ids)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # The same gradient for the same scales.
    named = {n: p for n, p in model.named_parameters() if "ia3_l" in n}
    wanted = torch.autograd.grad(theirs.log_softmax(-1)[:, 7].sum(), list(named.values()))
    found = torch.autograd.grad(
        ours.log_softmax(-1)[:, 7].sum(), list(adapter.parameters().values())
    )
    by_name = dict(zip(adapter.parameters(), found, strict=True))
    assert len(named) == len(by_name)
    for name, grad in zip(named, wanted, strict=True):
        mine = by_name[name.replace(".ia3_l.default", ".ia3_l")]
        torch.testing.assert_close(mine, grad.flatten(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", list(PARTS))
@pytest.mark.parametrize("how", ["leaves", "pattern", "all-linear"])
@torch.no_grad()
def test_we_load_peft(shape: str, how: str, tmp_path: Path) -> None:
    outputs, down = PARTS[shape]
    targets = {
        "leaves": [*outputs, down],
        "pattern": rf".*\.[12]\..*({'|'.join(outputs)}|{down})",
        "all-linear": "all-linear",
    }[how]
    feedforward = {"pattern": f".*{down}"}.get(how, [down])
    config = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=targets,
        feedforward_modules=feedforward,
        fan_in_fan_out=shape == "gpt2",
    )
    model = get_peft_model(plain_model(shape), config).eval()
    torch.manual_seed(6)
    for name, parameter in model.named_parameters():
        if "ia3_l" in name:
            parameter += 0.5 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    base, ids = tiny_base(shape), random_ids(33)
    adapter = load_ia3(base, files_in(tmp_path))
    theirs = peft_logits(model, ids)
    torch.testing.assert_close(our_logits(base, ids), theirs, rtol=1e-4, atol=1e-4)
    adapter.merge()
    torch.testing.assert_close(our_logits(base, ids), theirs, rtol=1e-4, atol=1e-4)
    merged = peft_logits(model.merge_and_unload(), ids)
    torch.testing.assert_close(our_logits(base, ids), merged, rtol=1e-4, atol=1e-4)
    adapter.detach()
    assert torch.equal(our_logits(base, ids), our_logits(tiny_base(shape), ids))


@pytest.mark.parametrize("shape", list(PARTS))
def test_the_number_of_parameters_is_the_closed_formula(shape: str) -> None:
    adapter = attach_ia3(tiny_base(shape), Ia3Settings(layers="0-1"))
    # Keys and values of two heads of 16 (GPT-2: all heads, with the queries), and the inner size.
    attention = {"gpt2": 3 * 64, "phi3": 64 + 32 + 32}.get(shape, 32 + 32)
    inner = 4 * 64 if shape == "gpt2" else 96
    assert sum(p.numel() for p in adapter.parameters().values()) == 2 * (attention + inner)


def test_a_small_change_shows_in_bf16() -> None:
    """A scale of 1.002 rounds to 1 in bf16; multiplied in fp32 it moves what is rounded after."""
    base, ids = tiny_base("llama", dtype=torch.bfloat16), random_ids(33)
    adapter = attach_ia3(base, Ia3Settings())
    with torch.no_grad():
        before = our_logits(base, ids)
        for parameter in adapter.parameters().values():
            parameter += 0.002
        assert all(torch.equal(p.bfloat16(), torch.ones_like(p.bfloat16()))
                   for p in adapter.parameters().values())  # fmt: skip
        assert not torch.equal(our_logits(base, ids), before)


def test_targets_and_what_is_refused() -> None:
    base = tiny_base("llama")
    only = attach_ia3(base, Ia3Settings(targets=("q_proj",), feedforward=(), layers="1"))
    assert list(only.parameters()) == ["base_model.model.model.layers.1.self_attn.q_proj.ia3_l"]
    only.detach()
    for settings, message in (
        (Ia3Settings(targets=(), feedforward=()), "nothing to train"),
        (Ia3Settings(targets=("down_proj",)), "in targets and in feedforward"),
        (Ia3Settings(feedforward=("dwn_proj",)), r"adapter\.feedforward: .* did you mean"),
    ):
        with pytest.raises(AdapterError, match=message):
            attach_ia3(base, settings)
    with pytest.raises(AdapterError, match="down_proj, mlp.c_proj") as caught:
        attach_ia3(tiny_base("gpt_oss"), Ia3Settings())
    assert "adapter.feedforward = []" in str(caught.value.hint)
    attach_ia3(tiny_base("gpt_oss"), Ia3Settings(feedforward=()))
    with pytest.raises(SettingsError, match="layers"):
        Ia3Settings.parse({"layers": "x"})


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "LORA"},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": None},
        {"target_modules": "("},
        {"target_modules": ["k_proj"]},
        {"exclude_modules": ["k_proj"]},
    ],
    ids=str,
)
def test_configurations_that_mean_something_else_are_refused(change: dict) -> None:
    files = attach_ia3(tiny_base("llama"), Ia3Settings()).files()
    config = json.loads(files["adapter_config.json"]) | change
    with pytest.raises(AdapterError, match="adapter: "):
        load_ia3(tiny_base("llama"), files | {"adapter_config.json": json.dumps(config).encode()})
