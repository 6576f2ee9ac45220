"""Weights in 4 or 8 bits: NF4 with double quantisation (arXiv 2305.14314) and int8 by rows.

Pure functions from a matrix to packed tensors and back. NF4 has bitsandbytes' layout, so that its
checkpoints can be read. Both work in blocks that stay within a processor's cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from kamerton.models.quantised.few_rows import int8_product

__all__ = [
    "CODECS",
    "NF4_BLOCK",
    "NF4_LEVELS",
    "Codec",
    "Quantisation",
    "dynamic_levels",
    "pack_int8",
    "pack_nf4",
    "unpack_int8",
    "unpack_nf4",
]

Quantisation = Literal["none", "nf4", "int8"]

NF4_BLOCK = 64  # weights that share a scale
_NESTED = 256  # scales that share a scale
_PART = 1 << 17  # numbers handled at once
_CELLS = 64  # of a grid so fine that no cell holds two middles between NF4's levels

# The 16 levels: quantiles of a normal distribution, scaled to [-1, 1], 0 among them (appendix E).
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codec:
    """A way to hold a matrix in few bits.

    Attributes:
        pack: Makes tensors by name of [out, in] in any float dtype.
        unpack: Makes [out, in] of those, the shape and a dtype.
        product: Multiplies [..., in] by the transpose without making it; gives None where it
            cannot, or where that is slower. None where there is no such way.
    """

    pack: Callable[[Tensor], dict[str, Tensor]]
    unpack: Callable[[Mapping[str, Tensor], tuple[int, int], torch.dtype], Tensor]
    product: Callable[[Tensor, Mapping[str, Tensor]], Tensor | None] | None = None


def pack_nf4(weight: Tensor) -> dict[str, Tensor]:
    """Round every weight to one of 16 levels times the largest size of its block of 64.

    Args:
        weight: [out, in].

    Returns:
        `codes` uint8, two weights in each, the first in the upper half; `scales` uint8 per block,
        indices into the levels of `dynamic_levels`; `nested` fp32 per 256 scales; `offset` fp32.
    """
    flat = weight.reshape(-1)
    num_blocks = -(-flat.numel() // NF4_BLOCK)
    codes = torch.zeros(num_blocks * NF4_BLOCK // 2, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(num_blocks, device=weight.device)
    for start in range(0, flat.numel(), _PART):
        part = flat[start : start + _PART].float()
        rows = torch.nn.functional.pad(part, (0, -part.numel() % NF4_BLOCK)).view(-1, NF4_BLOCK)
        largest = rows.abs().amax(1)
        first = start // NF4_BLOCK
        scales[first : first + len(rows)] = largest
        scaled = rows / largest.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        index = _nearest(scaled.view(-1)).view(-1, 2)
        codes[start // 2 : start // 2 + len(index)] = (index[:, 0] << 4) | index[:, 1]
    return {"codes": codes, **_pack_scales(scales)}


def unpack_nf4(tensors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Make the dense matrix, each weight computed in fp32 and rounded once.

    Args:
        tensors: The tensors that `pack_nf4` gives.
        shape: out, in.
        dtype: The dtype of the result.

    Returns:
        [out, in].
    """
    codes = tensors["codes"]
    scales = _unpack_scales(tensors)
    dense = torch.empty(codes.numel() * 2, dtype=dtype, device=codes.device)
    pairs = _pairs(codes.device)
    part = _part_of(dense)
    index = torch.empty(part // 2, dtype=torch.int32, device=codes.device)
    work = torch.empty(part // 2, dtype=torch.int64, device=codes.device)
    for start in range(0, dense.numel(), part):
        some = codes[start // 2 : (start + part) // 2]
        index[: len(some)] = some
        torch.index_select(pairs, 0, index[: len(some)], out=work[: len(some)])
        rows = work[: len(some)].view(torch.float32).view(-1, NF4_BLOCK)
        first = start // NF4_BLOCK
        rows.mul_(scales[first : first + len(rows), None])
        dense[start : start + part].view(-1, NF4_BLOCK).copy_(rows)
    return dense[: shape[0] * shape[1]].view(shape)


def _nearest(values: Tensor) -> Tensor:
    """Index of the nearest level of each of [n] values in [-1, 1], uint8.

    A cell of a grid holds at most one middle between two levels, so looking the cell up and
    comparing once is enough: four times as fast as comparing with all middles.
    """
    below, middle = _cells(values.device)
    cell = ((values + 1) * (_CELLS / 2)).to(torch.int32).clamp_(0, _CELLS - 1)
    return below.index_select(0, cell) + (values > middle.index_select(0, cell))


@cache
def _cells(device: torch.device) -> tuple[Tensor, Tensor]:
    """Per cell of [-1, 1]: how many middles stand below it, and the one in it or above it."""
    levels = torch.tensor(NF4_LEVELS)
    middles = (levels[1:] + levels[:-1]) / 2
    edges = torch.arange(_CELLS) * (2 / _CELLS) - 1
    below = torch.searchsorted(middles, edges)
    above = torch.cat([middles, torch.tensor([torch.inf])])
    return below.to(torch.uint8).to(device), above[below].to(device)


def pack_int8(weight: Tensor) -> dict[str, Tensor]:
    """Round every weight to one of 255 steps of its row's largest size.

    A step is rounded up to a number of bf16, so that products in bf16 have the very same weights.

    Args:
        weight: [out, in].

    Returns:
        `codes` int8 [out, in] and `scales` bf16 [out].
    """
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(weight), dtype=torch.bfloat16, device=weight.device)
    rows = max(1, _PART // weight.shape[1])
    for start in range(0, len(weight), rows):
        part = weight[start : start + rows].float()
        scale = _up_to_bf16(part.abs().amax(1) / 127)
        scales[start : start + rows] = scale
        tiny = torch.finfo(torch.float32).tiny
        codes[start : start + rows] = (part / scale.clamp(min=tiny)[:, None]).round_()
    return {"codes": codes, "scales": scales}


def _up_to_bf16(values: Tensor) -> Tensor:
    """Round positive fp32 numbers up to such as have the upper 16 bits only."""
    return ((values.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)


def unpack_int8(
    tensors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Make the dense matrix, each weight computed in fp32 and rounded once.

    Args:
        tensors: The tensors that `pack_int8` gives.
        shape: out, in.
        dtype: The dtype of the result.

    Returns:
        [out, in].
    """
    codes, scales = tensors["codes"], tensors["scales"]
    dense = torch.empty(shape, dtype=dtype, device=codes.device)
    num = max(1, _part_of(dense) // shape[1])
    work = torch.empty(num, shape[1], device=codes.device)
    for start in range(0, shape[0], num):
        some = codes[start : start + num]
        rows = work[: len(some)].copy_(some).mul_(scales[start : start + num, None])
        dense[start : start + num] = rows
    return dense


def _part_of(dense: Tensor) -> int:
    """The count of numbers to make at once: a cache full on a CPU, all of them on a GPU."""
    return min(_PART, dense.numel()) if dense.device.type == "cpu" else dense.numel()


def _pack_scales(scales: Tensor) -> dict[str, Tensor]:
    """Double quantisation: scales minus their mean, in 8 bits, in blocks of 256 (section 3)."""
    offset = scales.mean()
    padded = torch.nn.functional.pad(scales - offset, (0, -len(scales) % _NESTED))
    blocks = padded.view(-1, _NESTED)
    nested = blocks.abs().amax(1)
    levels = dynamic_levels(scales.device)
    middles = (levels[1:] + levels[:-1]) / 2
    scaled = blocks / nested.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    index = torch.bucketize(scaled, middles, out_int32=True).to(torch.uint8)
    kept = index.view(-1)[: len(scales)].clone()
    return {"scales": kept, "nested": nested, "offset": offset}


def _unpack_scales(tensors: Mapping[str, Tensor]) -> Tensor:
    codes, nested = tensors["scales"], tensors.get("nested")
    if nested is None:
        return codes.float()  # of a checkpoint without double quantisation
    values = dynamic_levels(codes.device)[codes.int()]
    return values * nested.repeat_interleave(_NESTED)[: len(codes)] + tensors["offset"]


@cache
def dynamic_levels(device: torch.device) -> Tensor:
    """The 256 levels of dynamic tree quantisation (arXiv 2110.02861 section 2): 7 decades.

    Decade i, 10^(i - 6), is cut into 2^i equal parts from a tenth of it to the whole; levels are
    the parts' middles, both signs, and 0 and 1.

    Args:
        device: The device of the levels.

    Returns:
        [256] in fp32, ascending.
    """
    positive = []
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        positive.append((edges[1:] + edges[:-1]) / 2 * 10 ** (exponent - 6))
    levels = torch.cat(positive)
    return torch.cat([levels, -levels, torch.tensor([0.0, 1.0])]).sort().values.to(device)


@cache
def _pairs(device: torch.device) -> Tensor:
    """Both weights of a byte at once: [256] int64 that hold two fp32 each."""
    levels = torch.tensor(NF4_LEVELS)
    byte = torch.arange(256)
    table = torch.stack([levels[byte >> 4], levels[byte & 15]], 1)
    return table.view(torch.int64).view(-1).to(device)


CODECS: Mapping[str, Codec] = {
    "nf4": Codec(pack_nf4, unpack_nf4),
    "int8": Codec(pack_int8, unpack_int8, int8_product),
}
