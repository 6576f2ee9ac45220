"""GGUF: a model in the file format of llama.cpp (specification: ggml's docs/gguf.md).

Needs the extra `gguf`, whose package knows the names of tensors. What else the format asks of a
decoder: query and key rows in the order that llama.cpp rotates them in (Llama), norm weights that
count from zero (Gemma), linear layers as [out, in] (GPT-2), stretched rotations as a tensor.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kamerton.core.errors import MissingExtraError, ModelError
from kamerton.models.gguf.tokenizer import add_tokenizer
from kamerton.models.linear import is_linear, is_transposed
from kamerton.models.quiet import quieten_transformers

__all__ = [
    "GgufDType",
    "add_tensor",
    "finish",
    "gguf_name",
    "gguf_package",
    "new_writer",
    "read_gguf_model",
    "rows_to_gguf",
    "write_gguf_model",
]

GgufDType = Literal["float32", "float16", "bfloat16"]
"""The dtype of matrices; vectors are always fp32."""

_FILE_TYPES = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16"}
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FULL_EVERY = 6
_LOCAL_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class _Kind:
    """The llama.cpp side of one of Transformers' architectures.

    Attributes:
        name: The architecture's name in GGUF.
        activation: The activation of the feed-forward: llama.cpp has no choice.
        pairs: Whether rotated rows stand in pairs, not in halves.
        norms_from_one: Whether the model adds one to its norm weights, and GGUF does not.
    """

    name: str
    activation: str = "silu"
    pairs: bool = False
    norms_from_one: bool = False


_KINDS: Mapping[str, _Kind] = {
    "LlamaForCausalLM": _Kind("llama", pairs=True),
    "MistralForCausalLM": _Kind("llama", pairs=True),
    "Qwen2ForCausalLM": _Kind("qwen2"),
    "Qwen3ForCausalLM": _Kind("qwen3"),
    "Gemma3ForCausalLM": _Kind("gemma3", "gelu_pytorch_tanh", norms_from_one=True),
    "GPT2LMHeadModel": _Kind("gpt2", "gelu_new"),
}


def write_gguf_model(
    model: Any, tokenizer: Any, path: Path, name: str, dtype: GgufDType, *, end: str = ""
) -> None:
    """Write a model with its tokenizer and chat template.

    Args:
        model: A Transformers causal language model, dense and without adapter.
        tokenizer: Its tokenizer.
        path: The file to write.
        name: The name that programs show.
        dtype: The dtype of matrices.
        end: The text of the token that ends an answer; empty for the tokenizer's EOS.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
        ModelError: If llama.cpp has no such model or tokenizer.
    """
    kind = _kind_of(model)
    writer = new_writer(model, path, name, dtype)
    _add_shape(writer, model)
    add_tokenizer(writer, tokenizer, model.get_input_embeddings().weight.shape[0], end)
    for full, parameter in model.named_parameters():
        tensor = parameter.detach()
        stem, _, leaf = full.rpartition(".")
        module = model.get_submodule(stem)
        if leaf == "weight" and is_linear(module) and is_transposed(module):
            tensor = tensor.t()
        elif kind.norms_from_one and "norm" in stem.rsplit(".", 1)[-1]:
            tensor = tensor.float() + 1
        add_tensor(writer, gguf_name(model, full), rows_to_gguf(model, stem, tensor), dtype)
    factors = _rotation_factors(model)
    if factors is not None:
        add_tensor(writer, "rope_freqs.weight", factors, "float32")
    finish(writer)


def read_gguf_model(path: Path, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Read a model back with Transformers' own reader of GGUF.

    Args:
        path: The file.
        config: The model's configuration: that reader leaves out some of what the file says.
        dtype: The dtype of the weights once they are read.

    Returns:
        The model, as Transformers made it.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
    """
    from transformers import AutoModelForCausalLM

    gguf_package()
    quieten_transformers()
    # Its progress bar heeds no setting.
    with redirect_stderr(io.StringIO()):
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, config=config, dtype=dtype
        )
    return model


def new_writer(model: Any, path: Path, name: str, dtype: GgufDType) -> Any:
    """Begin a file for a model or for what is put on it.

    Args:
        model: The model whose architecture it names.
        path: The file to write.
        name: The name that programs show.
        dtype: The dtype of matrices.

    Returns:
        A `gguf.GGUFWriter`.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
        ModelError: If llama.cpp has no such model.
    """
    gguf = gguf_package()
    writer = gguf.GGUFWriter(path, _kind_of(model).name, use_temp_file=True)
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[dtype]))
    return writer


def add_tensor(writer: Any, name: str, tensor: Tensor, dtype: GgufDType) -> None:
    """Add a tensor to a file.

    Args:
        writer: The writer that `new_writer` gave.
        name: The name in GGUF.
        tensor: Vectors are written in fp32 whatever the dtype.
        dtype: The dtype of matrices.
    """
    gguf = gguf_package()
    kind = getattr(gguf.GGMLQuantizationType, _TYPES[dtype] if tensor.ndim > 1 else "F32")
    values = tensor.detach().float().cpu().contiguous().numpy()
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def finish(writer: Any) -> None:
    """Write what was added and close the file.

    Args:
        writer: The writer that `new_writer` gave.
    """
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(model: Any, name: str) -> str:
    """Give a tensor its name in GGUF.

    Args:
        model: The model it belongs to.
        name: The name in the model, such as `model.layers.0.mlp.up_proj.weight`.

    Returns:
        A name such as `blk.0.ffn_up.weight`.

    Raises:
        ModelError: If llama.cpp has no such tensor.
    """
    kind = _kind_of(model)
    names = _name_map(kind.name, model.config.get_text_config().num_hidden_layers)
    found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise ModelError(f"llama.cpp's {kind.name} has no place for {name}")
    return found


@cache
def _name_map(architecture: str, num_layers: int) -> Any:
    gguf = gguf_package()
    numbers = {text: number for number, text in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(numbers[architecture], num_layers)


def rows_to_gguf(model: Any, path: str, rows: Tensor, back: bool = False) -> Tensor:
    """Put the rows of a query or key layer in the order that llama.cpp rotates them in.

    Args:
        model: The model.
        path: The layer's path; other layers' rows stay as they are.
        rows: [out, ...], of a weight, a bias or LoRA's B.
        back: Whether the order changes from llama.cpp's to Transformers'.

    Returns:
        [out, ...].
    """
    leaf = path.rsplit(".", 1)[-1]
    if not _kind_of(model).pairs or leaf not in ("q_proj", "k_proj"):
        return rows
    config = model.config.get_text_config()
    num_heads = config.num_attention_heads if leaf == "q_proj" else config.num_key_value_heads
    half = len(rows) // num_heads // 2
    split = (num_heads, half, 2) if back else (num_heads, 2, half)
    return rows.reshape(*split, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def gguf_package() -> Any:
    """Import the `gguf` package.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "GGUF files") from None
    return gguf


def _kind_of(model: Any) -> _Kind:
    name, config = type(model).__name__, model.config.get_text_config()
    kind = _KINDS.get(name)
    strange = f"llama.cpp has no {name}" if kind is None else next(_strange(config, kind), None)
    if kind is None or strange is not None:
        raise ModelError(
            f"this base cannot be written as GGUF: {strange}",
            hint=f"possible are {', '.join(sorted(_KINDS))}; for others, export with --format "
            "merged and convert that with llama.cpp's own script",
        )
    return kind


def _strange(config: Any, kind: _Kind) -> Iterator[str]:
    """Say what of a model llama.cpp would silently compute otherwise."""
    activation = (
        getattr(config, "hidden_act", None)
        or getattr(config, "hidden_activation", None)
        or config.activation_function
    )
    if activation not in (kind.activation, kind.activation.replace("silu", "swish")):
        yield f"its activation is {activation}, llama.cpp's is {kind.activation}"
    layers = getattr(config, "layer_types", None) or ()
    if kind.name == "gemma3":
        pattern = ["full_attention" if (n + 1) % _FULL_EVERY == 0 else "sliding_attention"
                   for n in range(config.num_hidden_layers)]  # fmt: skip
        if list(layers) != pattern:
            yield f"not every {_FULL_EVERY}th of its layers sees everything"
        if config.query_pre_attn_scalar != config.head_dim:
            yield "its scores are not scaled by the head's size"
        if config.rope_parameters["sliding_attention"]["rope_theta"] != _LOCAL_THETA:
            yield f"its sliding layers do not rotate with a base of {_LOCAL_THETA:g}"
    elif "sliding_attention" in layers or (
        config.model_type == "mistral" and getattr(config, "sliding_window", None)
    ):
        yield "it has sliding windows"
    for name in ("scale_attn_by_inverse_layer_idx", "final_logit_softcapping"):
        if getattr(config, name, None):
            yield f"it uses {name}"
    if (rotation := _rotation(config).get("rope_type", "default")) not in (
        "default", "linear", "llama3",
    ):  # fmt: skip
        yield f"its positions are stretched by '{rotation}'"


def _rotation(config: Any) -> Mapping[str, Any]:
    """Parameters of the rotation of positions; empty without one."""
    parameters = getattr(config, "rope_parameters", None) or {}
    found: Mapping[str, Any] = parameters.get("full_attention", parameters)
    return found


def _add_shape(writer: Any, model: Any) -> None:
    config, gguf = model.config.get_text_config(), gguf_package()
    heads, hidden = config.num_attention_heads, config.hidden_size
    size = getattr(config, "head_dim", None) or hidden // heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(hidden)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(inner or 4 * hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_vocab_size(model.get_input_embeddings().weight.shape[0])
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    rotation = _rotation(config)
    if rotation:
        writer.add_rope_dimension_count(size)
        writer.add_key_length(size)
        writer.add_value_length(size)
        writer.add_rope_freq_base(float(rotation["rope_theta"]))
        if rotation.get("rope_type") == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rotation["factor"]))
    if _kind_of(model).name == "gemma3":
        writer.add_sliding_window(config.sliding_window)


def _rotation_factors(model: Any) -> Tensor | None:
    """The divisor of each frequency of a stretched rotation, [head size / 2]; Llama 3 only."""
    rotation = _rotation(model.config.get_text_config())
    if rotation.get("rope_type") != "llama3":
        return None
    stretched = model.model.rotary_emb.inv_freq.float().cpu()
    steps = torch.arange(0, 2 * len(stretched), 2).float() / (2 * len(stretched))
    factors: Tensor = float(rotation["rope_theta"]) ** -steps / stretched
    return factors
