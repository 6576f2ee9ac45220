"""Dtypes by name, and which one a machine computes faster in: fp32, or bf16 where it can.

Instructions alone do not tell: two-core Xeons without AMX multiply fp32 1.7 times as fast as bf16,
other CPUs bf16 three times as fast as fp32. So both are measured once on each machine,
and the result is kept.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kamerton.core.files import cache_folder, hash_json, write_atomically

__all__ = [
    "DTYPES",
    "DType",
    "computes_faster_in_bf16",
    "dtype_name",
    "has_bf16",
    "pick_dtype",
    "product_seconds",
]

DType = Literal["auto", "float32", "bfloat16", "float16"]
"""The dtypes of weights and computation, as settings name them."""

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The dtypes by name."""

# A row of tokens and a layer of a small base; a product takes a few milliseconds.
_TOKENS, _IN, _OUT = 256, 1024, 1024
_REPEATS = 3
_MEASURED = ("float32", "bfloat16")


def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype as settings do.

    Args:
        dtype: Any.

    Returns:
        A name such as `bfloat16`.
    """
    return str(dtype).removeprefix("torch.")


def pick_dtype(dtype: DType, device: torch.device) -> torch.dtype:
    """Turn `auto` into a dtype.

    Args:
        dtype: The dtype's name in a setting.
        device: The device of the computation.

    Returns:
        The dtype; for `auto` bf16 where the device computes faster in it, else fp32.
    """
    if dtype == "auto":
        return torch.bfloat16 if computes_faster_in_bf16(device) else torch.float32
    return DTYPES[dtype]


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bf16 matrix products.

    Args:
        device: The device that they would run on.

    Returns:
        True on GPUs since Ampere and on CPUs with AMX or AVX-512 BF16.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        cpu: Any = torch.cpu
        return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())
    return False


def computes_faster_in_bf16(
    device: torch.device, measure: Callable[[], Mapping[str, float]] | None = None
) -> bool:
    """Tell whether matrix products are at least as fast in bf16 as in fp32.

    On a CPU that has bf16 this is measured once for its model, the number of threads and the
    version of PyTorch, and kept in the user's cache folder.

    Args:
        device: The device that they would run on.
        measure: Gives seconds by dtype; `product_seconds` when None.

    Returns:
        The answer; on a GPU what its instructions say.
    """
    if device.type != "cpu" or not has_bf16(device):
        return has_bf16(device)
    key = {"cpu": _cpu_model(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    memo = cache_folder("dtype") / f"{hash_json(key)[:16]}.json"
    seconds = _remembered(memo)
    if seconds is None:
        seconds = dict((measure or product_seconds)())
        # A cache that cannot be written to costs some milliseconds each time, no more.
        with suppress(OSError):
            write_atomically(memo, json.dumps({**key, "seconds": seconds}))
    return seconds["bfloat16"] <= seconds["float32"]


@torch.no_grad()
def product_seconds() -> dict[str, float]:
    """Measure the two products that a frozen linear layer takes part in: x W^T and g W.

    Returns:
        Seconds for both together, the fastest of a few repetitions, for "float32" and "bfloat16".
    """
    seconds = {}
    for name in _MEASURED:
        dtype = DTYPES[name]
        # No random numbers: runs draw theirs from the same generator.
        sizes = (_TOKENS, _IN), (_OUT, _IN), (_TOKENS, _OUT)
        products = partial(_products, *(torch.full(size, 0.01, dtype=dtype) for size in sizes))
        # The first time also prepares kernels.
        products()
        seconds[name] = min(products() for _ in range(_REPEATS))
    return seconds


def _products(x: Tensor, weight: Tensor, slope: Tensor) -> float:
    began = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    slope @ weight
    return time.perf_counter() - began


def _remembered(memo: Path) -> dict[str, float] | None:
    """Read what was measured before; None for what is absent or damaged."""
    try:
        found = json.loads(memo.read_text(encoding="utf-8"))["seconds"]
        seconds = {name: float(found[name]) for name in _MEASURED}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seconds if all(0 < s < math.inf for s in seconds.values()) else None


def _cpu_model() -> str:
    """The model's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
