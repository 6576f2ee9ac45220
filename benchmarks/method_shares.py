"""What share of a real model each method trains: shapes on the meta device, no weights.

    python benchmarks/method_shares.py

Adapters are attached to models built from the published sizes; virtual tokens, which need a forward
pass to begin, are counted by their formula.
"""

from pathlib import Path
from typing import Any

import record
import torch
from methods import METHODS
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config

from kamerton.adapters.adapter import trainable_share
from kamerton.adapters.catalogue import attach
from kamerton.flows.recipe import Recipe
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.quantised.layer import count_parameters

_QWEN: dict[str, Any] = {"vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128}
_LLAMA: dict[str, Any] = {"vocab_size": 128256, "num_key_value_heads": 8, "num_attention_heads": 32}
MODELS = {
    "Qwen3-0.6B": Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        tie_word_embeddings=True, **_QWEN,
    ),
    "Llama-3.2-1B": LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, tie_word_embeddings=True,
        **_LLAMA,
    ),
    "Llama-3.1-8B": LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, **_LLAMA
    ),
    "Qwen3-8B": Qwen3Config(
        hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        **_QWEN,
    ),
}  # fmt: skip
SAME_AS_LORA = ("PiSSA", "QLoRA nf4", "QLoRA int8")


def main() -> None:
    bases = {name: load_base_for(name, config) for name, config in MODELS.items()}
    lines = [
        f"| method | {' | '.join(MODELS)} |",
        "| --- |" + " ---: |" * len(MODELS),
        "| weights | "
        + " | ".join(f"{b.identity.num_parameters:,}" for b in bases.values())
        + " |",
    ]
    for method, made in METHODS.items():
        if made.rates and method not in SAME_AS_LORA:
            cells = [f"{share(base, dict(made.adapter)):.3%}" for base in bases.values()]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    record.write(
        "method_shares",
        record.header("Share of a model's weights that each method trains")
        + "LoRA family at rank 16 on all linear layers, 32 virtual tokens, bottlenecks by 16 "
        "(parallel by 2). PiSSA and QLoRA train what LoRA trains. LoRA passes 1 % on the smallest: "
        "its attention is twice as wide as its states; rank 8 is half of it.\n\n"
        + "\n".join(lines)
        + "\n",
    )


def load_base_for(name: str, config: PreTrainedConfig) -> Base:
    """A base without weights."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    model.requires_grad_(False)
    architecture = type(model).__name__
    identity = BaseIdentity(
        name, Path(), "", "", "", architecture, count_parameters(model), config.vocab_size
    )
    return Base(model, None, identity, ragged=True)


def share(base: Base, adapter: dict[str, Any]) -> float:
    """Trained numbers over the base's, 0 to 1."""
    config = base.model.config
    count = int(adapter.get("num_virtual_tokens", 0))
    if adapter["kind"] == "prefix":
        size = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim
        return float(count * size / base.identity.num_parameters)
    if adapter["kind"] == "prompt":
        return float(count * config.hidden_size / base.identity.num_parameters)
    settings = Recipe.parse({"name": "x", "data": {"train": "x"}, "adapter": adapter}).adapter
    attached = attach(base, settings, seed=0)
    found = trainable_share(attached, base.identity.num_parameters)["share"]
    attached.detach()
    return float(found)


if __name__ == "__main__":
    main()
