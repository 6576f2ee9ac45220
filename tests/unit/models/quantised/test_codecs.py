"""Packing matrices into 4 and 8 bits: levels, errors, sizes."""

import pytest
import torch

from kamerton.models.quantised.codecs import (
    CODECS,
    NF4_LEVELS,
    _nearest,
    _pack_scales,
    _unpack_scales,
    dynamic_levels,
)

NF4 = CODECS["nf4"]
INT8 = CODECS["int8"]
# Small, not a multiple of a block, and more than is handled at once.
SIZES = [(4, 16), (7, 33), (64, 96), (300, 1100)]


def matrix(size: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(size, generator=generator) * 0.02).to(dtype)


def num_bytes(packed: dict) -> int:
    return sum(tensor.nbytes for tensor in packed.values())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_rounds_to_the_nearest_of_16_levels(size, dtype) -> None:
    weight = matrix(size, dtype)
    found = NF4.unpack(NF4.pack(weight), size, torch.float32)
    assert found.shape == size
    # Normal weights lose 9 % of their size; a level away from the nearest would be 20 % and more.
    assert 0.07 < (found - weight.float()).norm() / weight.float().norm() < 0.1
    full = weight.float().reshape(-1)[: weight.numel() // 64 * 64].view(-1, 64)
    largest = full.abs().amax(1, keepdim=True)
    distance = found.reshape(-1)[: full.numel()].view(-1, 64) - full
    # Half the widest gap between levels, and what rounding the scale adds.
    assert (distance.abs() <= largest * (0.152 + 0.02)).all()


@pytest.mark.parametrize("size", SIZES)
def test_int8_rounds_to_half_a_step(size) -> None:
    weight = matrix(size)
    found = INT8.unpack(INT8.pack(weight), size, torch.float32)
    # The largest size over 127, rounded up to the 8 digits of bf16.
    step = weight.abs().amax(1, keepdim=True) / 127 * (1 + 2**-7)
    assert ((found - weight).abs() <= step * 0.501).all()
    assert not torch.equal(found, weight)


@pytest.mark.parametrize("kind", CODECS)
def test_zeros_and_what_is_exactly_a_level_are_exact(kind: str) -> None:
    codec = CODECS[kind]
    zeros = torch.zeros(3, 70)
    assert torch.equal(codec.unpack(codec.pack(zeros), (3, 70), torch.float32), zeros)
    signs = torch.where(torch.arange(128).view(2, 64) % 3 == 0, -127 / 128, 127 / 128)
    assert torch.equal(codec.unpack(codec.pack(signs), (2, 64), torch.float32), signs)


@pytest.mark.parametrize("kind", CODECS)
def test_each_weight_is_rounded_once(kind: str) -> None:
    codec, weight = CODECS[kind], matrix((64, 96))
    packed = codec.pack(weight)
    exact = codec.unpack(packed, (64, 96), torch.float32)
    assert torch.equal(codec.unpack(packed, (64, 96), torch.bfloat16), exact.bfloat16())


def test_bytes_held() -> None:
    size = (1024, 2048)
    weight = matrix(size)
    # 4 bits, 8 per 64 weights and 32 per 256 of those (the paper's 0.127 bits a weight).
    bits = num_bytes(NF4.pack(weight)) * 8 / weight.numel()
    assert bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-4)
    bits = num_bytes(INT8.pack(weight)) * 8 / weight.numel()
    assert bits == pytest.approx(8 + 16 / 2048, abs=1e-4)


def test_scales_in_8_bits_are_nearly_exact() -> None:
    scales = matrix((1000, 64)).abs().amax(1)
    found = _unpack_scales(_pack_scales(scales))
    assert (found / scales - 1).abs().max() < 0.01
    levels = dynamic_levels(torch.device("cpu"))
    assert len(levels) == 256
    assert levels.unique().numel() == 256
    assert (levels == 0).sum() == 1
    assert levels.max() == 1


def test_the_nearest_level_is_found_to_the_last_bit() -> None:
    levels = torch.tensor(NF4_LEVELS)
    middles = (levels[1:] + levels[:-1]) / 2
    around = [torch.nextafter(middles, torch.tensor(to)) for to in (-2.0, 2.0)]
    edges = torch.arange(65) / 32 - 1
    values = torch.cat([middles, *around, levels, edges, torch.linspace(-1, 1, 100_001)])
    expected = torch.searchsorted(middles, values).to(torch.uint8)
    assert torch.equal(_nearest(values), expected)
