"""Every causal language model of the installed Transformers, tiny and with random weights.

Configurations are shrunk by what their fields are called, not family by family: a family that a
newer Transformers brings is compared as well.
"""

import re
import warnings
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 97
WINDOW = 16
"""Of attention: shorter than the rows that are compared."""

DEPTH = 4

NAMES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

# The first pattern that a field's name matches gives its value.
_SIZES: list[tuple[str, Any]] = [
    (r"pad_token_id", 0),
    (r"bos_token_id", 1),
    (r"eos_token_id", 2),
    (r"token_id$|token_index$|token_ids$", 3),
    (r"vocab_size|vocabulary|^n_tokens$|n_token$", VOCABULARY),
    (r"vision|image|audio|video|patch|conv|kernel|^groups|norm_groups", None),
    (r"layers_to_|layer_idx|layer_id|first_k_dense|interval|period|offset|_every|step", None),
    (r"num_kv_shared_layers|num_mtp|nextn", 0),
    (r"num_hidden_layers|^n_layers?$|^num_layers$|_layers$", DEPTH),
    (r"(kv|key_value|query_group).*heads|heads.*(kv|key_value)|num_query_groups|n_head_kv", 2),
    (r"qk_rope_head_dim", 8),
    (r"rotary_dim", 8),
    (r"qk_head_dim|qk_nope_head_dim|v_head_dim|head_dim|d_kv|kv_channels|head_size|d_head", 16),
    (r"heads?$|_heads|n_head", 4),
    (r"lora_rank|_rank$", 16),
    # Scores of chosen keys are often equal, and then the choice depends on what else is there.
    (r"index_topk", 256),
    (r"experts_per_tok|num_activated|moe_topk|top_?k$|moe_k$|experts_top_k|num_selected", 2),
    (r"n_shared_experts|num_shared", 1),
    (r"experts", 4),
    (r"n_group|topk_group", 1),
    (r"sliding_window|window|chunk_size|local_attention", WINDOW),
    (r"max_.*(position|length|seq)|n_positions|n_ctx|context_length|block_size", 256),
    (r"state_size|d_state|ssm_state", 16),
    (r"n_groups|num_groups", 1),
    (r"intermediate|ffn|d_ff|n_inner|inner_dim|ff_dim|mlp_dim|feedforward", 96),
    (r"hidden_size_per_layer", 8),
    (r"hidden|d_model|n_embd|^dim$|dim_model|embed_dim|embedding_size|emb_dim|width|d_ssm", 64),
]  # fmt: skip
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_NEEDED = {"num_key_value_heads": 2, "head_dim": 16}
_MULTIPLIERS = r"multiplier|logit_scale|logits_scaling|embedding_scale|residual_scale|scale_emb"
_CAPS = r"soft_?cap"


def shrink(name: str) -> Any:
    """Make a tiny configuration of a family, with multipliers and caps that are felt."""
    kind = CONFIG_MAPPING[name]
    return kind(**{**_smaller(kind().to_dict()), **_KNOWN.get(name, {})})


def _smaller(fields: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    depth = next((fields[name] for name in _DEPTHS if fields.get(name)), 0)
    for field, value in fields.items():
        if field == "per_layer_config" and value:
            chosen[field] = {layer: v for layer, v in value.items() if int(layer) < DEPTH}
            continue
        if isinstance(value, list) and len(value) == depth > DEPTH:
            # All kinds of layers, the rarest too.
            kinds = list({str(kind): kind for kind in value}.values())
            chosen[field] = (kinds + value)[:DEPTH] if len(kinds) <= DEPTH else value[:DEPTH]
            continue
        if value is None and field in _NEEDED:
            chosen[field] = _NEEDED[field]
            continue
        if field == "is_decoder":
            chosen[field] = True
            continue
        if isinstance(value, dict):
            if field.endswith("config"):
                chosen[field] = {**value, **_smaller(value)}
            continue
        if re.search(_CAPS, field):
            chosen[field] = 3.0
        elif isinstance(value, float) and re.search(_MULTIPLIERS, field):
            chosen[field] = 0.7
        elif isinstance(value, int) and not isinstance(value, bool):
            size = next((size for pattern, size in _SIZES if re.search(pattern, field)), None)
            if size is not None and (value or size <= 3):
                chosen[field] = size
    if fields.get("qk_rope_head_dim"):
        # Latent attention: every query head has a key head, and only a part of it is rotated.
        chosen["num_key_value_heads"] = chosen["num_attention_heads"]
        chosen["head_dim"] = chosen["qk_rope_head_dim"]
    return chosen


# What no rule can know.
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16}
_KNOWN: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "granitemoehybrid": _MAMBA,
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "longcat_flash": {"qk_head_dim": 24},
    "reformer": {"axial_pos_embds": False, "is_decoder": True, "num_attention_heads": 4},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}

UNBUILT = {
    "bailing_hybrid": "the head size of its linear attention comes out as 0",
    "cohere_compass_text": "its kinds of layers follow from a depth of their own",
    "dbrx": "its nested configurations cannot be given in parts",
    "dots3_note": "its layers of a kind must be alike in ways that depend on the depth",
    "dots3_note_text": "its layers of a kind must be alike in ways that depend on the depth",
    "gemma3n": "its vision tower needs timm",
    "gemma4_assistant": "it reads another model's cache, not a text",
    "gemma4_unified_assistant": "it reads another model's cache, not a text",
    "musicgen": "it writes sound",
    "musicgen_melody": "it writes sound",
    "qwen4_exp": "the sizes of its linear attention are not in its configuration",
    "qwen4_exp_text": "the sizes of its linear attention are not in its configuration",
    "zamba": "it ties weights by a pattern that needs its own depth",
    "zamba2": "the sizes of its mixers follow from each other in a way of their own",
}
"""Families that the rules above do not shrink, and why."""


def build(name: str, seed: int = 0) -> Any:
    """Make a tiny model of a family, all of its parameters random."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(shrink(name)).eval()
    for parameter in model.parameters():
        # Norms away from one, biases away from zero, logits of the size of a cap.
        if parameter.ndim < 2:
            parameter.data.uniform_(0.5, 1.5)
        else:
            parameter.data.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    return model
