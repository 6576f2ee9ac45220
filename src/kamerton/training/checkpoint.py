"""Checkpoints: one file, replaced atomically, with all that an exact resume needs.

Order of examples, learning rate and dropout are functions of the seed and the step, so what
remains to be stored is the adapter, the optimiser and a few numbers. The best weights so far have
files of their own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kamerton.core.errors import TrainingError
from kamerton.training.tensor_file import write_tensors

__all__ = [
    "Checkpoint",
    "RunState",
    "load_checkpoint",
    "optimiser_tensors",
    "pause_after",
    "restore_optimiser",
    "save_checkpoint",
]

_INT = ":int"
_CHANGES_SHOWN = 8
_REWARDS = "rewards."
_LARGEST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class RunState:
    """The numbers of a run's state.

    Attributes:
        step: Optimiser steps done.
        tokens_per_row: Size of a row, which shrinks after running out of memory.
        recomputed_blocks: Decoder blocks recomputed in the backward pass.
        best_step: Step of the best held-out loss, or -1.
        best_loss: That loss.
        last_loss: The latest held-out loss.
        measured: Step at which it was measured.
        since_best: Measurements without a new best.
        seconds: Time spent in steps.
        ragged: Whether rows go through ragged attention.
        blockwise: Whether our modules and head stand in the place of the model's own.
        failed: Whether a judge or a function failed then: it may be mended since.
    """

    step: int = 0
    tokens_per_row: int = 0
    recomputed_blocks: int = 0
    best_step: int = -1
    best_loss: float = float("inf")
    last_loss: float = float("inf")
    measured: int = 0
    since_best: int = 0
    seconds: float = 0.0
    ragged: bool = True
    blockwise: bool = True
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run's state.

    Attributes:
        identity: Everything that must be the same to go on exactly, as JSON.
        counters: Numbers.
        adapter: Adapter tensors.
        optimiser: Optimiser tensors by `<name>/<state>`.
    """

    identity: str
    counters: RunState
    adapter: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, tensor by tensor; a crash leaves the previous one.

    Args:
        path: The file.
        checkpoint: The state.
    """
    tensors = {}
    for part in ("adapter", "optimiser"):
        for name, tensor in getattr(checkpoint, part).items():
            tensors[f"{part}/{name}"] = tensor
    numbers = {
        k: repr(v) if v == float("inf") else v for k, v in asdict(checkpoint.counters).items()
    }
    metadata = {"identity": checkpoint.identity, "counters": json.dumps(numbers)}
    write_tensors(path, tensors, metadata)


def pause_after(took_s: float, every_s: float) -> float:
    """Tell how long to wait before the next checkpoint: large ones take no more than 5 % of a run.

    Args:
        took_s: Seconds that the last one took.
        every_s: Seconds as the settings say; 0 means after every step, whatever that costs.

    Returns:
        Seconds.
    """
    return max(every_s, took_s * (1 - _LARGEST_SHARE) / _LARGEST_SHARE) if every_s else 0.0


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """Read a checkpoint.

    Args:
        path: The file.
        identity: The identity that it must have been made with.

    Returns:
        The state, or None when there is no file.

    Raises:
        TrainingError: If it is damaged or belongs to another recipe, data set or base.
    """
    if not path.is_file():
        return None
    parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimiser": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                part, _, rest = name.partition("/")
                parts[part][rest] = file.get_tensor(name)
        numbers = json.loads(metadata["counters"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path}: the checkpoint is damaged: {error}", hint="delete it to start anew"
        ) from None
    changed = _changes(metadata["identity"], identity)
    mended = numbers.get("failed") and all(key.startswith(_REWARDS) for key in changed)
    if changed and not mended:
        raise TrainingError(
            f"{path} belongs to a run with other settings, data or base{_told(changed)}",
            hint="give the recipe another name, or start over with --fresh",
        )
    for name in ("best_loss", "last_loss"):
        numbers[name] = float(numbers[name])
    return Checkpoint(identity, RunState(**numbers), **parts)


def _changes(before: str, now: str) -> dict[str, tuple[Any, Any]]:
    """Find what differs between two identities: by name, what it was and what it is now."""
    if before == now:
        return {}
    try:
        old, new = _flat(json.loads(before)), _flat(json.loads(now))
    except ValueError:
        return {"identity": (before, now)}
    both = {key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())}
    return {key: (was, now) for key, (was, now) in both.items() if was != now}


def _told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    lines = [f"\n  {key}: {was}, now {now}" for key, (was, now) in changed.items()]
    more = len(lines) - _CHANGES_SHOWN
    return ":" + "".join(lines[:_CHANGES_SHOWN]) + (f"\n  and {more} more" if more > 0 else "")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    parts = (_flat(each, f"{key}.{name}" if key else name) for name, each in value.items())
    return {name: each for part in parts for name, each in part.items()}


def optimiser_tensors(
    optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]
) -> dict[str, Tensor]:
    """Flatten an optimiser's state.

    Args:
        optimiser: Any optimiser whose state is tensors and whole numbers per parameter.
        names: The name of each parameter.

    Returns:
        Tensors by `<name>/<state>`; whole numbers as tensors by `<name>/<state>:int`.
    """
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimiser.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{names[parameter]}/{key}"] = value
            elif isinstance(value, int):
                tensors[f"{names[parameter]}/{key}{_INT}"] = torch.tensor(value)
    return tensors


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put a flattened state back where the optimiser itself keeps it.

    Args:
        optimiser: A fresh optimiser over the parameters.
        parameters: The parameters by name; put their values back after this, not before.
        tensors: The tensors that `optimiser_tensors` gave.
    """
    stepped = {name.rpartition("/")[0] for name in tensors}
    _make_states(optimiser, [parameters[name] for name in sorted(stepped)])
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        state = optimiser.state[parameters[parameter_name]]
        if key.endswith(_INT):
            state[key.removesuffix(_INT)] = int(tensor)
            continue
        kept: Tensor = state[key]
        assert kept.shape == tensor.shape, f"{name} has another shape than the optimiser's"
        kept.copy_(tensor)


def _make_states(optimiser: torch.optim.Optimizer, stepped: Sequence[torch.nn.Parameter]) -> None:
    """Let an optimiser make its states by a step of length zero.

    Only the optimiser knows where a tensor belongs: on a GPU, fused AdamW wants its step counts
    beside the weights, plain AdamW on the CPU, and paged states in memory of their own.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    for parameter in stepped:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
