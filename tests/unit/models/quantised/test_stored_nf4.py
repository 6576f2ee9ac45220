"""Checkpoints that bitsandbytes stored in NF4: read without it, refused when they are otherwise."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kamerton.core.errors import ModelError
from kamerton.models.load import _load_model
from kamerton.models.quantised.codecs import CODECS, NF4_LEVELS, _unpack_scales, dynamic_levels
from kamerton.models.quantised.layer import linear_paths, quantise_model
from kamerton.models.quantised.stored_nf4 import NestedParts
from tests.shapes import plain_model

CPU = torch.device("cpu")


def stored(weight: Tensor, nested: bool, **changes) -> dict[str, Tensor]:
    """What bitsandbytes writes beside a layer's codes, by the end of the name."""
    packed = CODECS["nf4"].pack(weight)
    facts = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    parts = {"weight": packed["codes"][:, None], "weight.quant_map": torch.tensor(NF4_LEVELS)}
    if nested:
        facts |= {"nested_blocksize": 256, "nested_offset": float(packed["offset"])}
        parts["weight.absmax"] = packed["scales"]
        parts["weight.nested_absmax"] = packed["nested"]
        parts["weight.nested_quant_map"] = dynamic_levels(CPU).clone()
    else:
        parts["weight.absmax"] = _unpack_scales(packed)
    text = json.dumps(facts | changes).encode()
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    return parts


@pytest.mark.parametrize("nested", [True, False])
def test_codes_may_end_with_their_last_byte(nested: bool) -> None:
    """As bitsandbytes pads them, where ours end with a block."""
    layer, parts = nn.Linear(7, 5, bias=False), {}
    for name, tensor in stored(layer.weight.detach(), nested).items():
        parts[f"one.{name}"] = tensor[:18] if name == "weight" else tensor
    found = NestedParts()
    for name, tensor in parts.items():
        found.take(name, tensor)
    packed = found.pop_layer("one", layer, CPU)
    exact = CODECS["nf4"].unpack(CODECS["nf4"].pack(layer.weight.detach()), (5, 7), torch.float32)
    torch.testing.assert_close(packed.weight_for(torch.float32), exact)


def checkpoint(folder: Path, nested: bool = True, kind: str = "nf4", **changes) -> None:
    """Write a tiny Llama as bitsandbytes would, in two shards that cut through its layers."""
    model = plain_model("llama")
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for path in linear_paths(model):
        weight = tensors.pop(f"{path}.weight")
        parts = stored(weight, nested, **changes)
        tensors |= {f"{path}.{name}": tensor for name, tensor in parts.items()}
    (folder / "model.safetensors").unlink()
    names = sorted(tensors, key=lambda name: name[::-1])
    weight_map = {}
    for number, some in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file)
        weight_map |= dict.fromkeys(some, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "bitsandbytes", "load_in_4bit": kind != "int8",
        "load_in_8bit": kind == "int8", "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": nested,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("nested", [True, False], ids=["double", "single"])
def test_it_says_what_we_would_have_made(nested: bool, tmp_path: Path) -> None:
    checkpoint(tmp_path, nested)
    model = _load_model(tmp_path, torch.float32, CPU, "nf4").eval()
    wanted = plain_model("llama")
    quantise_model(wanted, "nf4")
    model.set_attn_implementation("eager")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, wanted(ids).logits)
    assert not hasattr(model.config, "quantization_config")
    if nested:
        found = model.state_dict()
        assert all(torch.equal(found[name], t) for name, t in wanted.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "quantise", "said"),
    [
        ("nf4", "none", "in nf4, base.quantise is 'none'"),
        ("nf4", "int8", "in nf4"),
        ("fp4", "nf4", "in fp4"),
        ("int8", "int8", "bitsandbytes' int8"),
    ],
)
def test_other_ways_are_refused(kind: str, quantise: str, said: str, tmp_path: Path) -> None:
    checkpoint(tmp_path, kind=kind)
    with pytest.raises(ModelError, match=said):
        _load_model(tmp_path, torch.float32, CPU, quantise)


@pytest.mark.parametrize(
    "changes",
    [{"blocksize": 128}, {"quant_type": "fp4"}, {"shape": [4, 4]}, {"nested_blocksize": 64}],
    ids=str,
)
def test_other_blocks_are_refused(changes: dict, tmp_path: Path) -> None:
    checkpoint(tmp_path, **changes)
    with pytest.raises(ModelError, match="must be NF4 in blocks of 64"):
        _load_model(tmp_path, torch.float32, CPU, "nf4")


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    file = tmp_path / "model-1.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if name.endswith("absmax")))
    save_file(tensors, file)
    with pytest.raises(ModelError, match="not all of the layers"):
        _load_model(tmp_path, torch.float32, CPU, "nf4")
