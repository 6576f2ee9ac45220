"""PEFT's file format for LoRA: `adapter_config.json` and `adapter_model.safetensors`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kamerton.adapters.adapter_files import metadata_of
from kamerton.core.errors import AdapterError

__all__ = [
    "CONFIG_FILE",
    "PEFT_PREFIX",
    "ROUNDING_FILE",
    "START_FILE",
    "WEIGHTS_FILE",
    "LoraFile",
    "factor_names",
    "read_lora",
    "resolve",
    "row_name",
    "write_lora",
]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
START_FILE = "pissa_start.safetensors"
ROUNDING_FILE = "loftq_start.safetensors"
_PARTS = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")
PEFT_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_FROZEN = ".base_layer.weight"
_ROWS = ".token_adapter.trainable_tokens_delta"
_LARGEST_RANK = 1024
_START_KEY, _ROUNDING_KEY = "pissa_start", "loftq_start"
# Starts of PEFT that leave the base's weights alone, and PiSSA's own.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica", "pissa")
_Value = TypeVar("_Value", int, float)

# Options of PEFT that this version cannot use, each with the value that means "not used".
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "alora_invocation_tokens": (None, []),
    "lora_bias": (False, None),
    "layer_replication": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "use_qalora": (False, None),
    "use_bdlora": (None, False),
}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A stored LoRA.

    Attributes:
        tensors: `base_model.model.<module>.lora_A.weight` [r, in], `lora_B.weight` [out, r] and
            for DoRA `lora_magnitude_vector` [out]; of an embedding `lora_embedding_A` [r, V] and
            `lora_embedding_B` [E, r]; of single tokens `token_adapter.trainable_tokens_delta`
            [n, E], their whole rows.
        token_ids: Ids [n] of those rows by the leaf name of the module they are in.
        rank: r, unless `rank_pattern` has another.
        alpha: Strength, unless `alpha_pattern` has another.
        rank_pattern: Other ranks by regular expression; see `resolve`.
        alpha_pattern: Other strengths.
        rank_stabilised: Whether the factor is alpha / sqrt(r).
        dora: Whether it is DoRA.
        dropout: Share dropped while training.
        base: The base's name.
        transposed: Whether the layers keep their weights as [in, out] (GPT-2).
        principal: Whether PEFT's base lacks the principal part (PiSSA, not converted); when read.
        frozen: The base's weights of embeddings and head by module, which PEFT stores along.
        rounding: LoftQ's `<module>.lora_A.weight` and `lora_B.weight`, what `tensors` began as.
        start: PiSSA's A0 [r, in] by module, where `tensors` are of doubled rank; else empty.
        targets: PEFT's `target_modules`: leaf names, or full paths.
    """

    tensors: Mapping[str, Tensor]
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    dora: bool
    dropout: float
    base: str
    transposed: bool
    principal: bool = False
    token_ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    rounding: Mapping[str, Tensor] = field(default_factory=dict)
    start: Mapping[str, Tensor] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


def factor_names(path: str, *, embedding: bool) -> tuple[str, str]:
    """Give the names under which a layer's factors are stored.

    Args:
        path: The layer's path in the model.
        embedding: Whether it is an embedding, with A [r, V] and B [E, r].

    Returns:
        The names of A and of B.
    """
    if embedding:
        return f"{PEFT_PREFIX}{path}.lora_embedding_A", f"{PEFT_PREFIX}{path}.lora_embedding_B"
    return f"{PEFT_PREFIX}{path}.lora_A.weight", f"{PEFT_PREFIX}{path}.lora_B.weight"


def row_name(path: str) -> str:
    """Give the name under which trained rows of single tokens are stored.

    Args:
        path: The path of the embedding or the head in the model.

    Returns:
        The name.
    """
    return f"{PEFT_PREFIX}{path}{_ROWS}"


def write_lora(lora: LoraFile) -> dict[str, bytes]:
    """Write PEFT's two files.

    Args:
        lora: The LoRA to store.

    Returns:
        File contents by name; with `start` or `rounding` a third file that only we read.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lora.base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": _whole(lora.alpha),
        "rank_pattern": dict(lora.rank_pattern),
        "alpha_pattern": {name: _whole(value) for name, value in lora.alpha_pattern.items()},
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilised,
        "target_modules": list(lora.targets),
        "bias": "none",
        "fan_in_fan_out": lora.transposed,
        "init_lora_weights": True,
        "modules_to_save": None,
        "trainable_token_indices": {leaf: list(ids) for leaf, ids in lora.token_ids.items()}
        or None,
        "use_dora": lora.dora,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    # One entry only: safetensors writes several in any order, and equal adapters have equal bytes.
    metadata, third = {"format": "pt"}, dict[str, bytes]()
    if lora.start:
        metadata, third = {_START_KEY: START_FILE}, {START_FILE: save(_sorted(lora.start))}
    elif lora.rounding:
        metadata = {_ROUNDING_KEY: ROUNDING_FILE}
        third = {ROUNDING_FILE: save(_sorted(lora.rounding))}
    return {
        CONFIG_FILE: text.encode(), WEIGHTS_FILE: save(_sorted(lora.tensors), metadata), **third
    }  # fmt: skip


def read_lora(files: Mapping[str, bytes]) -> LoraFile:
    """Read PEFT's two files.

    Args:
        files: File contents by name.

    Returns:
        The stored LoRA.

    Raises:
        AdapterError: If they are damaged, not LoRA, or use what is not supported.
    """
    try:
        config = json.loads(files[CONFIG_FILE])
        tensors = load(files[WEIGHTS_FILE])
        kept = metadata_of(files[WEIGHTS_FILE])
        paired = START_FILE in files or _START_KEY in kept
        start = load(files[START_FILE]) if paired else {}
        rounded = ROUNDING_FILE in files or _ROUNDING_KEY in kept
        rounding = load(files[ROUNDING_FILE]) if rounded else {}
    except KeyError as missing:
        raise AdapterError(f"adapter: {missing.args[0]} is missing") from None
    except (ValueError, SafetensorError) as error:
        raise AdapterError(f"adapter: a file is damaged: {error}") from None
    if (paired and not start) or (rounded and not rounding):
        name = START_FILE if paired else ROUNDING_FILE
        raise AdapterError(f"adapter: {name} holds no tensors")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(
            f"adapter: peft_type must be LORA, is {found!r}",
            hint="this version loads LoRA only",
        )
    used = [k for k, off in _UNSUPPORTED.items() if config.get(k) not in off]
    if used:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} uses {', '.join(used)}, which is not supported yet"
        )
    if rounding and config.get("use_dora"):
        raise AdapterError(f"adapter: {ROUNDING_FILE} and use_dora do not go together")
    frozen = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_FROZEN)}
    dora = bool(config.get("use_dora"))
    known = (*_PARTS, _ROWS, *([_MAGNITUDE] if dora else []))
    strange = [name for name in tensors if not name.endswith(known)]
    if strange or not tensors:
        what = f"holds {strange[0]}, which is no LoRA tensor" if strange else "holds no tensors"
        raise AdapterError(f"adapter: {WEIGHTS_FILE} {what}")
    init = config.get("init_lora_weights", True)
    if init not in _INITS:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} has init_lora_weights = {init!r}, which changes the base",
            hint="save it from PEFT with path_initial_model_for_weight_conversion",
        )
    return LoraFile(
        tensors={name: tensor.float() for name, tensor in tensors.items()},
        **_numbers(config, doubled=paired),
        rank_stabilised=bool(config.get("use_rslora")),
        dora=dora,
        base=str(config.get("base_model_name_or_path") or ""),
        transposed=bool(config.get("fan_in_fan_out")),
        principal=init == "pissa",
        token_ids=_token_ids(config.get("trainable_token_indices")),
        frozen={
            name.removeprefix(PEFT_PREFIX).removesuffix(_FROZEN): tensor
            for name, tensor in frozen.items()
        },
        rounding=rounding,
        start=start,
        targets=_targets(config),
    )


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Ends of the paths of all modules that are adapted; none where PEFT chooses among them."""
    targets = config.get("target_modules")
    chosen = config.get("layers_to_transform") or config.get("exclude_modules")
    return tuple(map(str, targets)) if isinstance(targets, list) and not chosen else ()


def _token_ids(stored: Any) -> dict[str, tuple[int, ...]]:
    """Read ids by leaf name; a list alone means the embeddings, under an empty name."""
    named = stored if isinstance(stored, dict) else {"": stored or []}
    try:
        found = {str(leaf): tuple(int(n) for n in ids) for leaf, ids in named.items()}
        if any(min(ids) < 0 or len(set(ids)) < len(ids) for ids in found.values() if ids):
            raise ValueError("ids must be different and not below 0")
    except (TypeError, ValueError) as error:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must list token ids in trainable_token_indices: {error}"
        ) from None
    return {leaf: ids for leaf, ids in found.items() if ids}


def _numbers(config: Mapping[str, Any], doubled: bool) -> dict[str, Any]:
    """Read ranks, strengths and dropout; ranks are even and up to twice as large if doubled."""
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        dropout = float(config.get("lora_dropout") or 0.0)
        ranks = {str(k): int(v) for k, v in (config.get("rank_pattern") or {}).items()}
        alphas = {str(k): float(v) for k, v in (config.get("alpha_pattern") or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must give numbers for r, lora_alpha, lora_dropout and the "
            f"patterns of ranks and alphas: {error}"
        ) from None
    step = 2 if doubled else 1
    right = all(r in range(step, step * _LARGEST_RANK + 1, step) for r in (rank, *ranks.values()))
    right = right and all(0 < a < float("inf") for a in (alpha, *alphas.values()))
    if not (right and 0 <= dropout < 1):
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must have r from {step} to {step * _LARGEST_RANK}, lora_alpha "
            f"above 0 and lora_dropout from 0 to below 1, has {rank}, {alpha:g} and {dropout:g}, "
            f"with the patterns {ranks} and {alphas}"
        )
    return {
        "rank": rank, "alpha": alpha, "dropout": dropout,
        "rank_pattern": ranks, "alpha_pattern": alphas,
    }  # fmt: skip


def resolve(pattern: Mapping[str, _Value], paths: Sequence[str]) -> dict[str, _Value]:
    """Apply a pattern of PEFT: the first regular expression that a path ends with counts.

    Args:
        pattern: Values by regular expression.
        paths: Paths of modules.

    Returns:
        Values by path, only of those that match.

    Raises:
        AdapterError: If it is no regular expression.
    """
    try:
        matching = [(re.compile(rf"(.*\.)?({key})"), value) for key, value in pattern.items()]
    except re.error as error:
        raise AdapterError(f"adapter: {CONFIG_FILE} has a pattern that is none: {error}") from None
    found: dict[str, _Value] = {}
    for path in paths:
        for expression, value in matching:
            if expression.fullmatch(path):
                found[path] = value
                break
    return found


def _sorted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name].contiguous() for name in sorted(tensors)}


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
