"""Virtual tokens: what they begin as, packing, families, recomputation, generation, resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.virtual.prefix import NETWORK_FILE, PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.core.errors import AdapterError, InterruptedRun, ModelError
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.rows.row import make_row
from kamerton.objectives.sft import Sft
from kamerton.training.loop import train
from kamerton.training.memory import recompute_blocks
from kamerton.training.selfcheck import check_rows
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Outcome, Task
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import CONFIGS, tiny_base
from tests.unit.training.test_loop import examples

OPENING = [7, 31, 5, 60, 11]
FORMS = [
    PrefixSettings(num_tokens=5),
    PrefixSettings(num_tokens=5, network=6),
    PromptTuningSettings(num_tokens=5),
]
NAMES = ["prefix", "network", "prompt"]
FAMILY = Layout((Segment(0, 9), Segment(9, 13, parent=0), Segment(13, 20, parent=0)))


def attached(shape: str, settings: Any, dtype: torch.dtype = torch.float32) -> tuple[Base, Any]:
    """A base with an adapter that has been moved away from where it began."""
    base = tiny_base(shape, dtype=dtype)
    adapter = attach(base, settings, seed=1, opening=OPENING)
    torch.manual_seed(4)
    for parameter in adapter.parameters().values():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return base, adapter


def gradients(base: Base, adapter: Any, ids: Tensor, layout: Layout) -> list[Tensor]:
    hidden = base.hidden(ids, layout).float()
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    return list(torch.autograd.grad((hidden * weights).sum(), list(adapter.parameters().values())))


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_it_begins_as_the_text_itself(shape: str, settings: Any) -> None:
    base = tiny_base(shape)
    ids = random_ids(14)
    opening = torch.tensor(OPENING)
    with torch.no_grad():
        text = torch.cat([opening, ids])
        before = base.hidden(text, Layout.of_lengths([len(text)]))[len(OPENING) :]
        attach(base, settings, seed=1, opening=OPENING)
        assert base.num_virtual == len(OPENING)
        torch.testing.assert_close(
            base.hidden(ids, Layout.of_lengths([len(ids)])), before, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_a_packed_row_says_what_each_text_says_alone(shape: str, settings: Any) -> None:
    base, adapter = attached(shape, settings)
    ids, lengths = random_ids(32), (3, 12, 12, 5)
    with torch.no_grad():
        packed = base.hidden(ids, Layout.of_lengths(lengths))
        alone = [base.hidden(text, Layout.of_lengths([len(text)])) for text in ids.split(lengths)]
        torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-4)
        adapter.detach()
        assert not torch.allclose(packed, base.hidden(ids, Layout.of_lengths(lengths)), atol=1e-2)


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_families_see_it_once(shape: str, settings: Any) -> None:
    """A shared prompt with two answers, in both ways of computing, equals two texts."""
    base, _ = attached(shape, settings)
    ids = random_ids(20)
    with torch.no_grad():
        family = base.hidden(ids, FAMILY)
        first = base.hidden(ids[:13], Layout.of_lengths([13]))
        second = base.hidden(torch.cat([ids[:9], ids[13:]]), Layout.of_lengths([16]))
        torch.testing.assert_close(family[:13], first, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(family[13:], second[9:], rtol=1e-4, atol=1e-4)
    with_tape = base.hidden(ids, FAMILY)
    torch.testing.assert_close(with_tape.detach(), family, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gemma2", "gpt_oss", "gpt2"])
@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_recomputed_blocks_give_the_same_gradients(
    shape: str, settings: Any, dtype: torch.dtype
) -> None:
    base, adapter = attached(shape, settings, dtype)
    ids, layout = random_ids(20), Layout((*FAMILY.segments,))
    kept = gradients(base, adapter, ids, layout)
    recompute_blocks(base, base.num_layers)
    again = gradients(base, adapter, ids, Layout((*FAMILY.segments,)))
    assert all(float(gradient.abs().max()) > 0 for gradient in kept)
    for one, two in zip(kept, again, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_slots_begin_with_it(shape: str, settings: Any) -> None:
    """Reading into slots and going on token by token equals whole rows."""
    base, _ = attached(shape, settings)
    ids, past = random_ids(24), base.num_virtual
    with torch.no_grad():
        whole = base.hidden(ids, Layout.of_lengths([10, 14]))
        cache = base.new_cache(2)
        read = (Segment(0, 8, slot=0, past=past), Segment(8, 19, slot=1, past=past))
        found = base.hidden(torch.cat([ids[:8], ids[10:21]]), Layout(read, cache))
        torch.testing.assert_close(found[:8], whole[:8], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[8:], whole[10:21], rtol=1e-4, atol=1e-4)
        for step in range(2):
            row = tuple(
                Segment(slot, slot + 1, slot=slot, past=past + length + step)
                for slot, length in ((0, 8), (1, 11))
            )
            found = base.hidden(ids[[8 + step, 21 + step]], Layout(row, cache))
            wanted = whole[[8 + step, 21 + step]]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_the_self_check_knows_it(settings: Any) -> None:
    base, _ = attached("gemma3", settings)
    check = check_rows(base, make_row(examples(4), base.device))
    assert check.agrees
    assert check.difference < 1e-4


@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_padded_rows_are_refused_where_it_would_be_lost(settings: Any) -> None:
    base = tiny_base("llama")
    base.ragged, base.notice = False, "it mixes in something else"
    with pytest.raises(AdapterError, match="packed rows.*something else"):
        attach(base, settings, seed=1, opening=OPENING)
    base.ragged = True
    attach(base, settings, seed=1, opening=OPENING)
    base.ragged = False
    recompute_blocks(base, base.num_layers)
    with pytest.raises(ModelError, match="cannot be recomputed"):
        base.hidden(random_ids(6), Layout.of_lengths([6]))


@pytest.mark.parametrize("kind", [PrefixSettings, PromptTuningSettings])
def test_what_cannot_be_is_a_typed_error(kind: type) -> None:
    base = tiny_base("llama")
    with pytest.raises(AdapterError, match="needs a text"):
        attach(base, kind(), seed=1)
    with pytest.raises(AdapterError, match="below the base's context of 256"):
        attach(base, kind(num_tokens=256), seed=1, opening=OPENING)
    assert base.prefix is None
    attach(base, kind(), seed=1, opening=OPENING)
    with pytest.raises(AdapterError, match="already"):
        attach(base, kind(), seed=1, opening=OPENING)
    with pytest.raises(ValidationError, match='init = "text" only'):
        kind(text="Hello", init={"prefix": "zero", "prompt": "vocabulary"}[kind().kind])


def test_a_lost_network_is_noticed() -> None:
    base, adapter = attached("llama", FORMS[1])
    files = adapter.files()
    adapter.detach()
    for content in (None, b"", files[NETWORK_FILE][:-8]):
        damaged = {name: c for name, c in files.items() if name != NETWORK_FILE}
        if content is not None:
            damaged[NETWORK_FILE] = content
        with pytest.raises(AdapterError, match=NETWORK_FILE):
            load(base, "prefix", damaged)
    _, other = attached("llama", PrefixSettings(num_tokens=4, network=6))
    with pytest.raises(AdapterError, match="start must be"):
        load(base, "prefix", {**files, NETWORK_FILE: other.files()[NETWORK_FILE]})
    assert base.prefix is None


def run(
    folder: Path, settings: Any, steps: int | None = None, recompute: str = "none"
) -> tuple[Outcome | None, dict[str, Tensor]]:
    """Train a little; with `steps`, stop after as many."""
    folder.mkdir(exist_ok=True)
    base = tiny_base("llama")
    adapter = attach(base, settings, seed=0, opening=OPENING)
    train_settings = TrainSettings(
        epochs=2,
        tokens_per_step=96,
        learning_rate=1e-2,
        threads=1,
        gradient_checkpointing=recompute,
    )
    task = Task("run", base, adapter, Sft(), examples(16), examples(6, seed=1), train_settings,
                folder, "same")  # fmt: skip
    done = iter(range(1, 10**6))
    try:
        outcome = train(task, lambda event: None, lambda: next(done) == steps)
    except InterruptedRun:
        outcome = None
    return outcome, {name: p.detach().clone() for name, p in adapter.parameters().items()}


@pytest.mark.parametrize("settings", FORMS, ids=NAMES)
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, settings: Any) -> None:
    outcome, whole = run(tmp_path / "whole", settings)
    stopped, _ = run(tmp_path / "stopped", settings, steps=2)
    assert outcome is not None
    assert stopped is None
    resumed, weights = run(tmp_path / "stopped", settings)
    assert resumed is not None
    assert resumed.num_steps == outcome.num_steps > 2
    _, recomputed = run(tmp_path / "recomputed", settings, recompute="all")
    for name, weight in whole.items():
        assert torch.equal(weights[name], weight)
        torch.testing.assert_close(recomputed[name], weight, rtol=1e-4, atol=1e-5)
