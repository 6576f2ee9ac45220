"""The first-batch self-check sees what the untouched model says, on every kind of base."""

import pytest
import torch
from torch import nn

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import ModelError
from kamerton.models.base import Base
from kamerton.models.first_check import OWN_PARTS
from kamerton.models.fused import _RmsNorm
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import make_row
from kamerton.training.checkpoint import load_checkpoint
from kamerton.training.loop import CHECKPOINT_FILE
from kamerton.training.selfcheck import _model_logprobs, check_rows, settle_rows
from tests.shapes import CONFIGS, tiny_base
from tests.unit.training.test_loop import SMALL, Runs, runs, same
from tests.unit.training.test_pairs import pairs

__all__ = ["runs"]


def damage(base: Base) -> None:
    """Make blockwise norms wrong, as those of Gemma 3 were in bf16."""
    for module in base.model.modules():
        if isinstance(module, _RmsNorm):
            module.offset = 1.0 - module.offset


def trained(base: Base) -> None:
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    torch.manual_seed(0)
    for parameter in lora.parameters().values():
        nn.init.normal_(parameter, std=0.1)


def rows(base: Base):
    examples = pairs(6)
    return make_row(examples, base.device), make_row(examples, base.device, shared=False)


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("ragged", [True, False])
def test_right_rows_agree_adapter_and_all(shape: str, ragged: bool) -> None:
    base = tiny_base(shape)
    trained(base)
    base.ragged = ragged
    check, _, notice = settle_rows(base, *rows(base))
    assert check.difference < 1e-4
    assert notice is None
    assert base.ragged == ragged


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ragged", [True, False])
def test_wrong_norms_are_seen_on_packed_and_padded_rows(dtype, ragged: bool) -> None:
    base = tiny_base("gemma3", dtype=dtype)
    trained(base)
    row, apart = rows(base)
    base.ragged = ragged
    wanted = _model_logprobs(base, apart)
    damage(base)
    assert not check_rows(base, row, apart).agrees
    check, way, notice = settle_rows(base, row, apart)
    assert way == OWN_PARTS
    assert "falling back to the model's own modules" in str(notice)
    assert check.agrees
    off = (logprobs_of(base, row) - wanted).abs().mean()
    assert off < (1e-4 if dtype == torch.float32 else 0.1)


def test_rounding_of_bf16_alone_is_no_reason_to_fall_back() -> None:
    """With sharp attention and large logits single tokens are off by more than 0.25."""
    base = tiny_base("gemma3", dtype=torch.bfloat16)
    for name, parameter in base.model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=12.0, std=1.0)
    row, apart = rows(base)
    with torch.no_grad():
        gaps = (logprobs_of(base, row) - _model_logprobs(base, apart)).abs()
    assert gaps.max() > 0.25
    _, way, notice = settle_rows(base, row, apart)
    assert (way, notice) == ("packed rows", None)


def test_what_no_way_computes_is_refused(monkeypatch) -> None:
    base = tiny_base("llama")
    real = Base.hidden
    monkeypatch.setattr(Base, "hidden", lambda *given: 2 * real(*given))
    with pytest.raises(ModelError, match="computes something else with this adapter"):
        settle_rows(base, *rows(base))


def test_a_resumed_run_goes_on_with_the_models_own_modules(runs: Runs, monkeypatch) -> None:
    real, made = tiny_base, []

    def damaged(shape: str) -> Base:
        made.append(real(shape))
        damage(made[-1])
        return made[-1]

    monkeypatch.setattr("tests.unit.training.test_loop.tiny_base", damaged)
    settings = SMALL.model_copy(update={"max_steps": 3})
    runs(settings)
    whole = runs.weights
    checkpoint = load_checkpoint(runs.folder / CHECKPOINT_FILE, "same")
    assert checkpoint is not None
    assert not checkpoint.counters.blockwise
    (runs.folder / CHECKPOINT_FILE).unlink()
    stops = iter([False, True])
    with pytest.raises(Exception, match="stopped after step"):
        runs(settings, should_stop=lambda: next(stops))
    runs(settings)
    assert same(runs.weights, whole)
