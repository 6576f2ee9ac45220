"""Measuring what a row keeps for its backward pass."""

import gc
import os
import warnings

import torch

from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.models.rows.row import make_row
from kamerton.objectives.sft import Sft
from kamerton.training.memory import (
    keep_few_kernels,
    recompute_blocks,
    saved_bytes_per_token,
)
from kamerton.training.scoring import add_gradient
from tests.shapes import tiny_base
from tests.unit.training.test_loop import examples


def live_bytes() -> int:
    gc.collect()
    with warnings.catch_warnings():
        # Looking at every object touches deprecated names of PyTorch.
        warnings.simplefilter("ignore")
        tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_measuring_keeps_nothing_itself() -> None:
    base = tiny_base("llama")
    attach_lora(base, LoraSettings(rank=4), seed=0)
    row = make_row(examples(8), base.device)
    saved_bytes_per_token(base, row)
    before = live_bytes()
    measured = saved_bytes_per_token(base, row)
    # Some states of 64 numbers in each of 3 blocks.
    assert 3 * 8 * 64 * 4 < measured < 3 * 30 * 64 * 4
    assert live_bytes() - before < 0.1 * measured * len(row.ids)


def test_padded_rows_are_recomputed_with_their_own_attention() -> None:
    """After a failed self-check: the model's attention is another when the backward pass runs."""
    slopes = []
    for recomputed in (0, 3):
        base = tiny_base("llama")
        lora = attach_lora(base, LoraSettings(rank=4), seed=0)
        base.ragged = False
        recompute_blocks(base, recomputed)
        add_gradient(Sft(), base, examples(8), None, 1000, lambda row: None)
        slopes.append([parameter.grad for parameter in lora.parameters().values()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


def test_few_kernels_are_kept_unless_the_user_has_said_how_many(monkeypatch) -> None:
    ours, theirs = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"
    monkeypatch.delenv(ours, raising=False)
    monkeypatch.setenv(theirs, "1000")
    keep_few_kernels()
    assert (os.environ[ours], os.environ[theirs]) == ("64", "1000")
