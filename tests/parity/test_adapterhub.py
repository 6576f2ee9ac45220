"""AdapterHub's files in ours: the logits that its library computed (recorded), and the way back.

`scripts/peers/adapterhub.py` recorded the folder `adapterhub` and loads what we write.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from transformers import AutoModelForCausalLM

from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings, attach_bottleneck
from kamerton.adapters.formats.adapterhub import read_adapterhub, write_adapterhub
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.load import prepare_model
from tests.shapes import tiny_base

RECORDED = Path(__file__).parent / "adapterhub"
IDS = torch.arange(3, 27)
MODELS = ("llama", "gpt2")
ADAPTERS = ("double", "seq", "own-input")


def recorded_base(model: str) -> Base:
    loaded = AutoModelForCausalLM.from_pretrained(RECORDED / model / "base", dtype=torch.float32)
    assert prepare_model(loaded) is None
    count = sum(p.numel() for p in loaded.parameters())
    name = type(loaded).__name__
    identity = BaseIdentity("recorded", RECORDED, "0", "0", "0", name, count, 29)
    return Base(loaded, None, identity, ragged=True)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def logits(base: Base) -> torch.Tensor:
    return base.head.logits(base.hidden(IDS, Layout.of_lengths([len(IDS)])))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("model", MODELS)
def test_the_librarys_adapters_give_its_logits(model: str, adapter: str) -> None:
    base = recorded_base(model)
    wanted = load_file(RECORDED / model / "logits.safetensors")
    torch.testing.assert_close(logits(base), wanted["base"], rtol=1e-4, atol=1e-4)
    files = files_of(RECORDED / model / adapter)
    loaded = read_adapterhub(base, files)
    assert (wanted[adapter] - wanted["base"]).abs().max() > 0.1
    torch.testing.assert_close(logits(base), wanted[adapter], rtol=1e-4, atol=1e-4)
    # Written again it says the same: the library's own configuration and names.
    again = write_adapterhub(base, loaded, "t")
    ours, theirs = (json.loads(f["adapter_config.json"]) for f in (again, files))
    for key, value in ours["config"].items():
        if key not in ("init_weights", "leave_out"):
            assert theirs["config"][key] == value, key
    assert sorted(ours["config"]["leave_out"]) == sorted(theirs["config"]["leave_out"])
    assert {k: ours[k] for k in ("hidden_size", "model_class", "model_type", "name")} == {
        k: theirs[k] for k in ("hidden_size", "model_class", "model_type", "name")
    }
    loaded.detach()
    read_adapterhub(base, again)
    torch.testing.assert_close(logits(base), wanted[adapter], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        BottleneckSettings(placement="houlsby", reduction=4, activation="silu"),
        BottleneckSettings(reduction=2, scale=2, layers="1"),
        BottleneckSettings(modules=("self_attn", "attn"), activation="gelu", reduction=4),
    ],
    ids=["houlsby", "pfeiffer", "attention"],
)
@pytest.mark.parametrize("model", MODELS)
def test_ours_come_back_from_its_format(model: str, settings: BottleneckSettings) -> None:
    base = recorded_base(model)
    if settings.modules:
        name = "attn" if model == "gpt2" else "self_attn"
        settings = settings.model_copy(update={"modules": (name,)})
    adapter = attach_bottleneck(base, settings, seed=0)
    torch.manual_seed(2)
    for parameter in adapter.parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    ours, files = logits(base), write_adapterhub(base, adapter)
    if root := os.environ.get("KAMERTON_INTEROP"):
        folder = Path(root) / model / f"ours-{settings.placement}-{'-'.join(settings.modules)}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        save_file({"logits": ours}, folder / "logits.safetensors")
    adapter.detach()
    read_adapterhub(base, files)
    assert torch.equal(logits(base), ours)


def test_what_only_one_side_can_is_refused() -> None:
    base = recorded_base("llama")
    beside = attach_bottleneck(base, BottleneckSettings(placement="parallel"), seed=0)
    with pytest.raises(AdapterError, match="beside the feed-forward"):
        write_adapterhub(base, beside)
    beside.detach()
    odd = attach_bottleneck(base, BottleneckSettings(modules=("o_proj",)), seed=0)
    with pytest.raises(AdapterError, match=r"self_attn\.o_proj"):
        write_adapterhub(base, odd)
    odd.detach()
    with pytest.raises(AdapterError, match="supported for Llama"):
        other = tiny_base("gemma3")
        write_adapterhub(other, attach_bottleneck(other, BottleneckSettings(), seed=0))
    files = files_of(RECORDED / "llama" / "seq")
    described = json.loads(files["adapter_config.json"])
    for change in (
        {"is_parallel": True},
        {"ln_after": True},
        {"phm_layer": True},
        {"mh_adapter": True},
        {"scaling": "learned"},
        {"reduction_factor": {"default": 16}},
        {"reduction_factor": 4},
        {"non_linearity": "tanh"},
    ):
        changed = {**described, "config": {**described["config"], **change}}
        with pytest.raises(AdapterError):
            read_adapterhub(base, {**files, "adapter_config.json": json.dumps(changed).encode()})
    for damaged in (b"", b"x", files["adapter.safetensors"][:40]):
        with pytest.raises(AdapterError):
            read_adapterhub(base, {**files, "adapter.safetensors": damaged})
    pickled = files_of(RECORDED / "llama" / "double")
    for damaged in (b"", b"x", pickled["pytorch_adapter.bin"][:200]):
        with pytest.raises(AdapterError):
            read_adapterhub(base, {**pickled, "pytorch_adapter.bin": damaged})
    tensors = load(files["adapter.safetensors"])
    fewer = {name: tensor for name, tensor in tensors.items() if ".1." not in name}
    assert 0 < len(fewer) < len(tensors)
    with pytest.raises(AdapterError, match="no bottleneck in block 1"):
        read_adapterhub(base, {**files, "adapter.safetensors": save(fewer)})
    assert read_adapterhub(base, files).layers.keys() == {"model.layers.0", "model.layers.1"}
