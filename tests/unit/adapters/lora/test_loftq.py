"""LoftQ: nearer to the unrounded base, and the same update on either."""

import pytest
import torch
from safetensors.torch import load, save

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError, ModelError
from kamerton.models.linear import dense, frozen_weight
from tests.contract.test_adapters import logits, trained
from tests.shapes import tiny_base

LOFTQ = LoraSettings(rank=16, init="loftq")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_it_begins_nearer_to_the_unrounded_base(shape: str, kind: str) -> None:
    unrounded, base = tiny_base(shape), tiny_base(shape, quantise=kind)
    rounded = logits(base)
    lora = attach_lora(base, LOFTQ, seed=0)
    wanted = logits(unrounded)
    assert (logits(base) - wanted).norm() < 0.8 * (rounded - wanted).norm()
    for path, layer in lora.layers.items():
        weight = dense(frozen_weight(unrounded.model.get_submodule(path)), torch.float32)
        lost = weight - dense(frozen_weight(layer.layer), torch.float32)
        left = torch.linalg.matrix_norm(lost - (layer.b @ layer.a).detach() * layer.scaling)
        best = torch.linalg.svdvals(lost)[16:].norm()
        assert float(left) == pytest.approx(float(best), rel=0.01)


def test_on_the_unrounded_base_it_is_what_training_changed() -> None:
    made = trained(lambda: LOFTQ, "llama:nf4")
    files, lora = made.adapter.files(), made.adapter
    base = tiny_base("llama")
    weights = {path: base.model.get_submodule(path).weight.clone() for path in lora.layers}
    dense_lora = load_lora(base, files)
    dense_lora.merge()
    for path, layer in lora.layers.items():
        start = layer.rounding[1] @ layer.rounding[0]
        changed = (layer.b @ layer.a - start) * layer.scaling
        torch.testing.assert_close(
            base.model.get_submodule(path).weight, weights[path] + changed, rtol=0, atol=1e-6
        )


def test_a_dense_base_and_a_checkpoint_without_the_weights_are_refused(tmp_path) -> None:
    with pytest.raises(AdapterError, match="not rounded"):
        attach_lora(tiny_base("llama"), LOFTQ, seed=0)
    base = tiny_base("llama", quantise="nf4")
    content = load((base.identity.folder / "model.safetensors").read_bytes())
    content.pop("model.layers.1.mlp.up_proj.weight")
    (tmp_path / "model.safetensors").write_bytes(save(content))
    object.__setattr__(base.identity, "folder", tmp_path)
    before = logits(base)
    with pytest.raises(ModelError, match=r"no original weight for model.layers.1.mlp.up_proj"):
        attach_lora(base, LOFTQ, seed=0)
    assert torch.equal(logits(base), before)


def test_its_start_belongs_to_its_files() -> None:
    files = trained(lambda: LOFTQ, "llama:nf4").adapter.files()
    assert sorted(files)[-1] == "loftq_start.safetensors"
    del files["loftq_start.safetensors"]
    with pytest.raises(AdapterError, match=r"loftq_start.safetensors is missing"):
        load_lora(tiny_base("llama", quantise="nf4"), files)


def test_lengths_apart_are_not_combined_with_it() -> None:
    with pytest.raises(ValueError, match="dora"):
        LoraSettings(init="loftq", dora=True)
