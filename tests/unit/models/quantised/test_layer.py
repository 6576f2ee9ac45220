"""Quantised bases: what is held, gradients, loading layer by layer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from kamerton.core.errors import ModelError
from kamerton.models.blocks import compile_blocks
from kamerton.models.linear import is_linear
from kamerton.models.load import _load_model, load_base
from kamerton.models.quantised import lazy
from kamerton.models.quantised.layer import (
    QuantisedLinear,
    count_parameters,
    linear_paths,
    quantise_model,
)
from kamerton.models.quantised.lazy import load_quantised
from tests.shapes import plain_model, tiny_base

SHAPES = ["llama", "qwen3", "gemma3", "gpt2", "phi3"]
KINDS = ["nf4", "int8"]
CPU = torch.device("cpu")


def held(model) -> int:
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.nbytes
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(storages.values())


def layers(model) -> list[QuantisedLinear]:
    return [module for module in model.modules() if isinstance(module, QuantisedLinear)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_are_packed_and_the_rest_is_not(shape: str, kind: str) -> None:
    model = plain_model(shape)
    paths, dense, num = linear_paths(model), held(model), count_parameters(model)
    weights = sum(model.get_submodule(path).weight.nbytes for path in paths)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    quantise_model(model, kind)
    assert {name for name, m in model.named_modules() if isinstance(m, QuantisedLinear)} == set(
        paths
    )
    assert len(paths) >= 3 * 4
    assert model.get_input_embeddings() is embedding
    assert model.get_output_embeddings() is head
    assert not isinstance(head, QuantisedLinear)
    assert count_parameters(model) == num
    # From fp32: the blocks' matrices take less than a seventh, or hardly more than a quarter.
    share = {"nf4": 1 / 7, "int8": 0.27}[kind]
    assert held(model) < dense - weights * (1 - share)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_multiplies_by_what_it_holds(kind: str) -> None:
    model = plain_model("gpt2")
    quantise_model(model, kind)
    layer = layers(model)[0]
    weight = layer.weight_for(torch.float32)
    assert weight.shape == (layer.out_features, layer.in_features) == (192, 64)
    x = torch.randn(5, 64, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    assert kept == []
    torch.testing.assert_close(y, torch.nn.functional.linear(x, weight, layer.bias))
    slope = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, slope)[0], slope @ weight)
    assert is_linear(layer)


def save(shape: str, folder: Path, shards: bool) -> None:
    limit = "20KB" if shards else "1GB"
    plain_model(shape).save_pretrained(folder, max_shard_size=limit)
    assert (len(list(folder.glob("*.safetensors"))) > 3) == shards


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", [True, False], ids=["shards", "one-file"])
def test_layer_by_layer_is_the_same_as_afterwards(shape, kind, shards, tmp_path: Path) -> None:
    save(shape, tmp_path, shards)
    config = AutoConfig.from_pretrained(tmp_path)
    model = load_quantised(tmp_path, config, dtype=torch.float32, device=CPU, kind=kind)
    assert model is not None
    whole = plain_model(shape)
    quantise_model(whole, kind)
    found, wanted = model.eval().state_dict(), whole.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    ids = torch.arange(3, 40)[None]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        assert torch.equal(model(ids).logits, whole(ids).logits)
    tied = whole.lm_head.weight is whole.get_input_embeddings().weight
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_never_two_dense_layers_at_once(tmp_path: Path, monkeypatch) -> None:
    """Every tensor of the checkpoint is let go before the next but one is read."""
    import gc
    import weakref

    save("llama", tmp_path, shards=True)
    alive: list[weakref.ref] = []
    most = 0

    def watched(folder: Path):
        nonlocal most
        for name, tensor in read(folder):
            alive.append(weakref.ref(tensor.untyped_storage()))
            matrix = tensor.ndim == 2 and "layers" in name
            yield name, tensor
            del tensor
            gc.collect()
            if matrix:
                most = max(most, sum(1 for ref in alive if ref() is not None))

    read = lazy._tensors
    monkeypatch.setattr(lazy, "_tensors", watched)
    config = AutoConfig.from_pretrained(tmp_path)
    model = load_quantised(tmp_path, config, dtype=torch.bfloat16, device=CPU, kind="nf4")
    assert model is not None
    assert alive
    # What the loop itself still names; embeddings and norms are copied into another dtype.
    assert 0 < most <= 2


def test_a_checkpoint_with_other_names_is_loaded_whole(tmp_path: Path) -> None:
    save("gpt_oss", tmp_path, shards=False)
    config = AutoConfig.from_pretrained(tmp_path)
    arguments = {"dtype": torch.float32, "device": CPU}
    assert load_quantised(tmp_path, config, kind="nf4", **arguments) is None
    assert layers(_load_model(tmp_path, torch.float32, CPU, "nf4"))


def test_nano_in_four_bits_says_nearly_the_same() -> None:
    plain = load_base("builtin:nano", dtype="float32")
    base = load_base("builtin:nano", dtype="float32", quantise="nf4")
    assert base.identity.quantise == "nf4"
    assert plain.identity.quantise == "none"
    assert base.identity.num_parameters == plain.identity.num_parameters
    assert base.identity.weight_hash == plain.identity.weight_hash
    packed = layers(base.model)
    assert len(packed) == len(linear_paths(plain.model))
    saved = sum(4 * layer.in_features * layer.out_features for layer in packed)
    assert held(base.model) < held(plain.model) - 0.85 * saved
    # The gated feed-forwards were recognised although their layers are packed.
    kinds = [type(m).__name__ for m in base.model.modules()]
    assert kinds == [
        type(m).__name__.replace("Linear", "QuantisedLinear") if is_linear(m) and n in blocks else
        type(m).__name__
        for blocks in [set(linear_paths(plain.model))]
        for n, m in plain.model.named_modules()
    ]  # fmt: skip


def test_compiling_is_refused() -> None:
    with pytest.raises(ModelError, match="train.compile needs dense weights"):
        compile_blocks(tiny_base("llama", quantise="nf4"))
