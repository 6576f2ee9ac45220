"""Models of other makes: their blocks are found, and what packed rows cannot do padded ones do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma3Config,
    Llama4TextConfig,
    NemotronConfig,
    PhimoeConfig,
)

from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import ModelError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.models.linear import is_linear
from kamerton.models.load import wrap_model
from kamerton.models.quantised.layer import QuantisedLinear, quantise_model
from kamerton.objectives.sft import Sft
from kamerton.training.scoring import add_gradient
from tests.families import build
from tests.shapes import VOCABULARY, tiny_base
from tests.unit.training.test_loop import examples

SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
MAKES: dict[str, Any] = {
    # As many blocks in the vision tower as in the text's decoder.
    "gemma3": lambda: Gemma3Config(
        text_config={**SIZE, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16},
        vision_config=VISION, mm_tokens_per_image=4, image_token_index=94, boi_token_index=95,
        eoi_token_index=96,
    ),
    # Latent attention: keys and values have heads of different sizes.
    "deepseek": lambda: DeepseekV3Config(
        **SIZE, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8,
        v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        n_group=1, topk_group=1, first_k_dense_replace=1,
    ),
    # It passes no keyword arguments on to attention.
    "nemotron": lambda: NemotronConfig(**SIZE, head_dim=16),
    # Its router inherits from a linear layer and gives three tensors.
    "phimoe": lambda: PhimoeConfig(**SIZE, num_local_experts=4, num_experts_per_tok=2),
    # It names a backbone that it does not have, and attends within chunks.
    "llama4": lambda: Llama4TextConfig(
        **SIZE, head_dim=16, attention_chunk_size=16, num_local_experts=2, num_experts_per_tok=1,
        intermediate_size_mlp=32, moe_layers=[],
    ),
}  # fmt: skip
NOTICES = {"deepseek": "packed rows", "nemotron": "'layout'", "llama4": "within chunks"}


def made(make: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(MAKES[make]()).float().eval()


def wrapped(make: str, folder: Path) -> Base:
    tokenizer = tiny_base("llama").tokenizer
    return wrap_model(made(make), tokenizer, name=make, folder=folder)


@pytest.mark.parametrize("make", list(MAKES))
def test_every_make_answers_and_learns(make: str, tmp_path: Path) -> None:
    base = wrapped(make, tmp_path)
    notice = NOTICES.get(make)
    assert base.ragged is (notice is None)
    assert notice is None or notice in str(base.notice)
    ids = torch.arange(3, 12)
    with torch.no_grad():
        hidden = base.hidden(ids, Layout.of_lengths([4, 5]))
        logits = torch.cat(
            [made(make)(input_ids=part[None]).logits[0] for part in (ids[:4], ids[4:])]
        )
        torch.testing.assert_close(base.head.logits(hidden), logits, rtol=1e-4, atol=1e-4)
    lora = attach_lora(base, LoraSettings(rank=2), seed=0)
    add_gradient(Sft(), base, examples(4), None, 1000, lambda row: None)
    slopes = [p.grad for name, p in lora.parameters().items() if "lora_B" in name]
    assert all(slope is not None for slope in slopes)
    assert sum(float(slope.abs().max()) > 0 for slope in slopes) > len(slopes) / 2


def test_blocks_of_the_text_are_found() -> None:
    model = made("gemma3")
    assert decoder_blocks(model) is model.model.language_model.layers


def test_a_router_is_not_a_linear_layer() -> None:
    model = made("phimoe")
    router = model.model.layers[0].mlp.router
    assert isinstance(router, torch.nn.Linear)
    assert not is_linear(router)
    quantise_model(model, "int8")
    assert not isinstance(model.model.layers[0].mlp.router, QuantisedLinear)
    assert model(input_ids=torch.arange(3, 9)[None]).logits.isfinite().all()


def test_a_model_that_cannot_run_is_one_line(tmp_path: Path, monkeypatch) -> None:
    model = made("nemotron")

    def broken(*inputs: object, **others: object) -> None:
        raise ValueError("too many values to unpack\nand more")

    monkeypatch.setattr(model.model.layers[1].mlp, "forward", broken)
    with pytest.raises(ModelError, match="ValueError: too many values to unpack") as raised:
        wrap_model(model, tiny_base("llama").tokenizer, name="x", folder=tmp_path)
    assert "\n" not in raised.value.message


def test_blocks_that_do_not_run_are_said(tmp_path: Path, monkeypatch) -> None:
    model = made("gemma3")
    vision = next(
        m for n, m in model.named_modules()
        if "vision" in n and isinstance(m, torch.nn.ModuleList)
    )  # fmt: skip
    monkeypatch.setattr("kamerton.models.trial.decoder_blocks", lambda _: vision)
    with pytest.raises(ModelError, match="do not take part"):
        wrap_model(model, tiny_base("llama").tokenizer, name="x", folder=tmp_path)


def test_a_model_of_several_stacks_has_no_blocks_in_one_line() -> None:
    with pytest.raises(ModelError, match="BltForCausalLM does not say how many decoder blocks"):
        decoder_blocks(build("blt"))
