"""GGUF: what is written is what Transformers' own reader reads, for every supported shape."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import Metaspace
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from kamerton.adapters.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError, ModelError
from kamerton.models.base import Base
from kamerton.models.gguf.file import read_gguf_model, write_gguf_model
from kamerton.models.gguf.tokenizer import splits_otherwise
from kamerton.models.load import load_base, prepare_model
from tests.contract.test_adapters import logits
from tests.shapes import _SIZE, CONFIGS, VOCABULARY, tiny_base

STRETCHED = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
SHAPES: dict[str, Any] = {
    "llama": CONFIGS["llama"],
    "llama-biases": lambda: LlamaConfig(**_SIZE, attention_bias=True, tie_word_embeddings=True),
    "llama-stretched": lambda: LlamaConfig(**_SIZE, rope_parameters=STRETCHED),
    "qwen2": lambda: Qwen2Config(**_SIZE),
    "qwen3": CONFIGS["qwen3"],
    "gpt2": CONFIGS["gpt2"],
    "gemma3": lambda: Gemma3TextConfig(
        **_SIZE | {"num_hidden_layers": 6},
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=8,
    ),
}


def base_of(shape: str) -> Base:
    """A tiny base whose every tensor matters, norms and biases too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(SHAPES[shape]())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert prepare_model(model) is None
    base = tiny_base("llama")
    base.model, base.tokenizer = model, tokenizer()
    return base


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "▁": 4, "a": 5, "b": 6, "ab": 7}
    model = BPE(vocabulary, [("a", "b")], unk_token="<unk>", byte_fallback=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def field(path: Path, key: str) -> Any:
    return gguf.GGUFReader(path).fields[key].contents()


@pytest.mark.parametrize("shape", SHAPES)
def test_another_reader_finds_the_same_model(shape: str, tmp_path: Path) -> None:
    base, path = base_of(shape), tmp_path / "one.gguf"
    wanted = logits(base)
    for dtype, tolerance in (("float32", 1e-5), ("bfloat16", 0.05)):
        write_gguf_model(base.model, base.tokenizer, path, "one", dtype)
        found = read_gguf_model(path, base.model.config)
        prepare_model(found)
        base.model, kept = found, base.model
        scale = float(wanted.abs().max())
        torch.testing.assert_close(logits(base), wanted, rtol=0, atol=tolerance * scale)
        base.model = kept
    stretched = "rope_freqs.weight" in {tensor.name for tensor in gguf.GGUFReader(path).tensors}
    assert stretched == (shape == "llama-stretched")


@pytest.mark.parametrize(
    ("scheme", "spaced"), [("first", True), ("always", True), ("never", False)]
)
def test_a_space_before_the_text_is_said(scheme: str, spaced: bool, tmp_path: Path) -> None:
    """Llama-2's tokenizers of Transformers 5 put it there by their splitting."""
    base, own = base_of("llama"), tokenizer()
    own.backend_tokenizer.pre_tokenizer = Metaspace(prepend_scheme=scheme, split=False)
    assert own.tokenize("ab")[0].startswith("▁") is spaced
    write_gguf_model(base.model, own, tmp_path / "one.gguf", "one", "float32")
    assert field(tmp_path / "one.gguf", "tokenizer.ggml.add_space_prefix") is spaced


@pytest.mark.parametrize("shape", SHAPES)
def test_a_lora_comes_back(shape: str, tmp_path: Path) -> None:
    base, path = base_of(shape), tmp_path / "lora.gguf"
    targets = ("all-linear",) if shape == "gpt2" else ("q_proj", "v_proj", "down_proj")
    pattern = {} if shape == "gpt2" else {"down_proj": 3}
    settings = LoraSettings(
        rank=4, alpha=6, rank_stabilised=True, targets=targets, rank_pattern=pattern
    )
    start = logits(base)
    lora = attach_lora(base, settings, seed=1)
    for layer in lora.layers.values():
        torch.nn.init.normal_(layer.b, std=1.0)
    wanted, paths = logits(base), set(lora.layers)
    assert (wanted - start).abs().max() > 0.1
    write_gguf_lora(base, lora, path, "one", "float32")
    lora.detach()
    again = read_gguf_lora(base, path)
    assert set(again.layers) == paths
    torch.testing.assert_close(logits(base), wanted, rtol=0, atol=1e-4)
    assert field(path, "general.type") == "adapter"
    assert field(path, "adapter.lora.alpha") == 4


def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path) -> None:
    for shape, reason in (
        ("phi3", "has no Phi3ForCausalLM"),
        ("mistral", "sliding windows"),
        ("gemma3", "6th of its layers"),
    ):
        base = tiny_base(shape)
        with pytest.raises(ModelError, match=reason) as caught:
            write_gguf_model(base.model, tokenizer(), tmp_path / "x.gguf", "x", "float32")
        assert "--format merged" in str(caught.value.hint)
        assert not list(tmp_path.iterdir())
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(dora=True), seed=0)
    with pytest.raises(AdapterError, match="no DoRA"):
        write_gguf_lora(base, lora, tmp_path / "x.gguf", "x", "float32")


def test_a_lora_of_another_base_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lora.gguf"
    base = base_of("llama")
    write_gguf_lora(base, attach_lora(base, LoraSettings(), seed=0), path, "one", "float16")
    with pytest.raises(AdapterError, match="matches no layer"):
        read_gguf_lora(base_of("gpt2"), path)


def test_a_tokenizer_with_byte_fallback_has_scores_by_rank(tmp_path: Path) -> None:
    path = tmp_path / "one.gguf"
    base = base_of("llama")
    write_gguf_model(base.model, base.tokenizer, path, "one", "float32")
    assert field(path, "tokenizer.ggml.model") == "llama"
    tokens = field(path, "tokenizer.ggml.tokens")
    assert len(tokens) == VOCABULARY
    assert tokens[7] == "ab"
    types = field(path, "tokenizer.ggml.token_type")
    assert types[:4] == [2, 3, 3, 6]
    assert types[4:9] == [1, 1, 1, 1, 5]
    scores = field(path, "tokenizer.ggml.scores")
    assert scores[7] > max(scores[4:7])


def test_the_bundled_base_is_written_with_its_template(tmp_path: Path) -> None:
    base, path = load_base("builtin:nano"), tmp_path / "nano.gguf"
    write_gguf_model(base.model, base.tokenizer, path, "nano", "bfloat16")
    template = field(path, "tokenizer.chat_template")
    assert "generation %}" not in template
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    texts = [
        base.tokenizer.apply_chat_template(chat, tokenize=False, chat_template=each)
        for each in (template, base.tokenizer.chat_template)
    ]
    assert texts[0] == texts[1]
    assert field(path, "tokenizer.ggml.model") == "gpt2"
    assert field(path, "tokenizer.ggml.add_bos_token") is True
    assert field(path, "tokenizer.ggml.eos_token_id") == base.tokenizer.eos_token_id
    described = json.loads(base.tokenizer.backend_tokenizer.to_str())
    assert len(field(path, "tokenizer.ggml.merges")) == len(described["model"]["merges"])
    assert splits_otherwise(base.tokenizer)


def test_known_ways_to_split_are_known() -> None:
    base = load_base("builtin:nano")
    described = json.loads(base.tokenizer.backend_tokenizer.to_str())
    steps = described["pre_tokenizer"]["pretokenizers"]
    steps[0]["pattern"]["Regex"] = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    rebuilt = Tokenizer.from_str(json.dumps(described))
    assert not splits_otherwise(PreTrainedTokenizerFast(tokenizer_object=rebuilt))


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ModelError, match="WordLevel"):
        write_gguf_model(
            tiny_base("llama").model,
            PreTrainedTokenizerFast(tokenizer_object=words),
            tmp_path / "x.gguf", "x", "float32",
        )  # fmt: skip


@pytest.mark.parametrize("shape", ["llama", "qwen2"])
def test_the_file_describes_the_model(shape: str, tmp_path: Path) -> None:
    base, path = base_of(shape), tmp_path / "one.gguf"
    write_gguf_model(base.model, base.tokenizer, path, "one", "float32")
    found = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name).config
    for name in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps",
        "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
        "tie_word_embeddings",
    ):  # fmt: skip
        assert getattr(found, name) == pytest.approx(getattr(base.model.config, name)), name
    assert found.rope_parameters["rope_theta"] == base.model.config.rope_parameters["rope_theta"]
