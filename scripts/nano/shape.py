"""The shape of the nano model: one place for its sizes."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY_SIZE = 4096
CONTEXT_LENGTH = 1024


def nano_config(bos_id: int, end_id: int, pad_id: int) -> LlamaConfig:
    """Return the Llama configuration of the nano model (about 5.2 M parameters)."""
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=bos_id,
        eos_token_id=end_id,
        pad_token_id=pad_id,
    )


def new_model(config: LlamaConfig) -> LlamaForCausalLM:
    """Return a model with random weights, smaller where layers write to the residual stream."""
    model = LlamaForCausalLM(config)
    scale = (2 * config.num_hidden_layers) ** -0.5
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data.mul_(scale)
    return model
