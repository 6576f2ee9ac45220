"""All decoder families of the installed Transformers, tiny and random: our logits are theirs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.first_check import choose_forward, read_untouched
from kamerton.models.load import prepare_model
from tests.families import NAMES, UNBUILT, VOCABULARY, build

# A prompt with two answers, and another row: longer than the windows of the families.
ROW = Layout(
    (Segment(0, 20), Segment(20, 40, parent=0), Segment(40, 55, parent=0), Segment(55, 78))
)
IDS = torch.randint(4, VOCABULARY, (78,), generator=torch.Generator().manual_seed(3))
APART = [IDS[:40], torch.cat([IDS[:20], IDS[40:55]]), IDS[55:]]

# As a share of the standard deviation of the logits; what is wrong is off by a tenth and more.
TOLERANCE = 1e-3

LEAST_COMPARED = 160
"""So that a sweep that finds nothing to compare does not pass."""

FEW = [
    "llama",
    "gemma3_text",  # cap, windows
    "gpt_oss",  # sinks, experts
    "granite",  # multipliers everywhere, and logits divided
    "hyperclovax",  # the same name multiplies
    "falcon_h1",  # multipliers in the feed-forward and on the logits, state-space layers
    "modernbert-decoder",  # layers before the head
    "deepseek_v3",  # values narrower than keys
    "llama4_text",  # chunks
    "opt",  # a decoder inside of the backbone
    "xlstm",  # a cap under a name of its own
]


def logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids[None], use_cache=False).logits[0].float()


def apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the standard deviation; tokens ruled out are left out."""
    if found.shape != wanted.shape:
        return float("inf")
    said = wanted > -1e6
    gap = float((found - wanted)[said].abs().max() / wanted[said].std())
    return gap if gap == gap else float("inf")


@torch.no_grad()
def compared(name: str, model: Any) -> dict[str, float]:
    """Load a family as a base and compare each way of computing that it is given."""
    wanted = [logits(model, ids) for ids in APART]
    row = torch.cat([wanted[0], wanted[1][20:], wanted[2]])
    reference = read_untouched(model)
    assert reference is not None
    notice = prepare_model(model)
    identity = BaseIdentity(name, Path(), "", "", "", type(model).__name__, 1, VOCABULARY)
    base = Base(model, None, identity, ragged=notice is None, notice=notice)
    choose_forward(base, reference)
    found = {}
    if base.ragged:
        found["packed"] = apart(base.head.logits(base.hidden(IDS, ROW)), row)
        cache, parts = KVCache(num_slots=1), []
        for start, stop in ((0, 7), (7, 25), (25, 26), (26, 40)):
            part = Layout((Segment(0, stop - start, slot=0, past=start),), cache)
            parts.append(base.head.logits(base.hidden(IDS[start:stop], part)))
        found["cached"] = apart(torch.cat(parts), wanted[0])
        base.ragged = False
    else:
        assert base.notice is not None
    found["padded"] = apart(base.head.logits(base.hidden(IDS, ROW)), row)
    return found


@pytest.mark.parametrize("name", FEW)
def test_a_few_families(name: str) -> None:
    ways = compared(name, build(name))
    assert max(ways.values()) < TOLERANCE, ways


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_family_is_right_or_refused_in_one_line() -> None:
    right, wrong, refused, unbuilt = [], {}, {}, {}
    for name in NAMES:
        try:
            model = build(name)
            with torch.no_grad():
                logits(model, IDS[:40])
        except Exception as error:
            unbuilt[name] = repr(error)
            continue
        try:
            ways = compared(name, model)
        except ModelError as error:
            refused[name] = str(error)
            continue
        if max(ways.values()) < TOLERANCE:
            right.append(name)
        else:
            wrong[name] = ways
    assert not wrong
    assert all("\n" not in reason for reason in refused.values()), refused
    assert unbuilt.keys() <= UNBUILT.keys(), {n: unbuilt[n] for n in unbuilt.keys() - UNBUILT}
    assert len(right) >= LEAST_COMPARED, (len(right), sorted(refused), sorted(unbuilt))
