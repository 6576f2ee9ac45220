"""Tiny randomly initialised models in the shapes of real ones, for parity tests."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from kamerton.data.rendering.renderer import Renderer, RenderSettings, make_renderer
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.load import prepare_model
from kamerton.models.quantised.layer import count_parameters, quantise_model

VOCABULARY = 97
WINDOW = 8
"""Sliding window of the shapes that have one: shorter than the rows of the tests."""
_SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MIXED = {
    "head_dim": 16,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}

_FOLDERS = TemporaryDirectory()

CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_SIZE),
    "qwen3": lambda: Qwen3Config(**_SIZE, head_dim=16),
    "gemma3": lambda: Gemma3TextConfig(**_SIZE, **_MIXED),
    "mistral": lambda: MistralConfig(**_SIZE, sliding_window=WINDOW),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=256,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "phi3": lambda: Phi3Config(**_SIZE),
    # Soft-capped scores and logits; attention sinks.
    "gemma2": lambda: Gemma2Config(**_SIZE, **_MIXED),
    "gpt_oss": lambda: GptOssConfig(**_SIZE, **_MIXED, num_local_experts=4, num_experts_per_tok=2),
}


def tiny_base(
    shape: str, seed: int = 0, dtype: torch.dtype = torch.float32, quantise: str = "none"
) -> Base:
    """Make a tiny base of a shape, with random weights and a word for every row.

    A quantised one has its dense weights in its folder.
    """
    made, state, folder = _model(shape, seed, dtype, quantise)
    # Every base is a copy of its own, and leaves random numbers as if it had been made anew.
    model = deepcopy(made)
    torch.set_rng_state(state)
    identity = BaseIdentity(
        id=f"tiny/{shape}",
        folder=folder,
        weight_hash="0" * 64,
        tokenizer_hash="0" * 64,
        template_hash="0" * 64,
        architecture=type(model).__name__,
        num_parameters=count_parameters(model),
        vocab_size=VOCABULARY,
        quantise=quantise,
    )
    return Base(model, _tokenizer(), identity, ragged=True)


@cache
def _model(
    shape: str, seed: int, dtype: torch.dtype, quantise: str
) -> tuple[Any, torch.Tensor, Path]:
    """Make a model ready for a base, once; nothing may change it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[shape]()).to(dtype)
    folder = Path()
    if quantise != "none":
        folder = Path(_FOLDERS.name) / f"{shape}-{seed}-{dtype}"
        if not folder.exists():
            model.save_pretrained(folder)
        quantise_model(model, quantise)
    assert prepare_model(model) is None
    return model, torch.get_rng_state(), folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Words "w3" to "w96", one for every row of a tiny base."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")


def tiny_renderer(base: Base) -> Renderer:
    """Make the renderer of a tiny base: messages stand one after another, "w2" ends an answer."""
    base.tokenizer.add_special_tokens({"eos_token": "w2"})
    ended = "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    base.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + ended + "{% endfor %}"
    return make_renderer(base.tokenizer, RenderSettings(), vocab_size=VOCABULARY)


def plain_model(shape: str) -> Any:
    """Make the same weights as `tiny_base`, with Transformers' own modules and attention."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[shape]()).eval()
    model.set_attn_implementation("eager")
    return model.requires_grad_(False)
