"""LoRA on the embeddings and the head: sizes, shared weights, what is refused."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from kamerton.adapters.combine import CombineSettings
from kamerton.adapters.formats.gguf_lora import write_gguf_lora
from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.combine import combine_loras
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError
from kamerton.models.load import prepare_model
from tests.contract.test_adapters import logits, trained
from tests.shapes import VOCABULARY, tiny_base

ENDS = LoraSettings(rank=3, targets=("embeddings", "head"))


@pytest.mark.parametrize("names", [("embeddings", "head"), ("embed_tokens", "lm_head")])
def test_both_kinds_of_names_mean_them_once(names: tuple[str, ...]) -> None:
    lora = attach_lora(tiny_base("llama"), LoraSettings(rank=3, targets=(*names, "head")), 0)
    assert sorted(lora.layers) == ["lm_head", "model.embed_tokens"]
    count = sum(p.numel() for p in lora.parameters().values())
    assert count == 2 * 3 * (64 + VOCABULARY)


def test_all_linear_means_neither() -> None:
    lora = attach_lora(tiny_base("llama"), LoraSettings(rank=3), 0)
    assert not any("embed" in path or "head" in path for path in lora.layers)


@pytest.mark.parametrize("shape", ["gpt2", "gemma3"])
@pytest.mark.parametrize("target", ["embeddings", "head"])
def test_a_shared_weight_is_parted_when_merged(shape: str, target: str, tmp_path: Path) -> None:
    settings = LoraSettings(rank=3, targets=(target, "all-linear"))
    made = trained(lambda: settings, shape)
    adapted, model = logits(made.base), made.base.model
    made.adapter.merge()
    with made.adapter.as_plain_model():
        model.save_pretrained(tmp_path)
    written = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert written.config.tie_word_embeddings is False
    made.adapter.unmerge()
    assert model.config.tie_word_embeddings is True
    made.adapter.detach()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    base = tiny_base(shape)
    assert prepare_model(written) is None
    base.model = written
    torch.testing.assert_close(logits(base), adapted, rtol=1e-4, atol=1e-4)


def test_they_are_combined_as_the_others() -> None:
    one, two = (trained(lambda: ENDS, steps=steps).adapter.files() for steps in (1, 3))
    base = tiny_base("llama")
    start = logits(base)
    combined = combine_loras([one, two], CombineSettings(how="cat", weights=(1e-6, 1.0)))
    load_lora(base, combined.files)
    found = logits(base)
    other = tiny_base("llama")
    load_lora(other, two)
    assert (found - start).abs().max() > 0.01
    torch.testing.assert_close(found, logits(other), rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [{"dora": True}, {"init": "pissa"}], ids=str)
def test_what_they_cannot_have_is_refused(options: dict) -> None:
    base = tiny_base("llama")
    with pytest.raises(AdapterError, match="decoder blocks, the targets name the embeddings"):
        attach_lora(base, LoraSettings(targets=("all-linear", "embeddings"), **options), 0)
    with pytest.raises(AdapterError, match="embeddings or head"):
        write_gguf_lora(base, attach_lora(base, ENDS, 0), Path("x.gguf"), "x", "float32")
    assert not Path("x.gguf").exists()
