"""A merged model in few bits is judged by what rounding to them does by itself."""

from pathlib import Path

import pytest
import torch

from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import probe_logits
from kamerton.variants.rounding import rounding_change, verdict
from tests.e2e.project import make_project


@pytest.fixture(scope="module")
def variant(tmp_path_factory) -> Variant:
    folder = tmp_path_factory.mktemp("rounding")
    options = ("train.max_steps=4", "train.learning_rate=1e-2")
    recipe = Recipe.read(make_project(folder, num_rows=12), options)
    return make_variant(recipe, folder, Workspace(folder), lambda event: None).variant


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_merge_is_as_far_as_rounding_alone(variant: Variant, tmp_path: Path, dtype: str) -> None:
    written = export_variant(variant, tmp_path / "out", "merged", dtype)
    assert written.rounding is not None
    assert 0 < written.rounding < written.moved
    fine, why = verdict(written.largest, written.moved, written.rounding, dtype)
    assert fine, why
    assert f"rounding to {dtype} alone changes logits by about" in why


@torch.no_grad()
def test_fewer_bits_round_more(variant: Variant) -> None:
    changes = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        base = load_base_for(variant)
        renderer = make_ready(variant, base).renderer
        changes.append(rounding_change(renderer, base, probe_logits(renderer, base), dtype))
    # 23, 10 and 7 bits behind the point; of fp32 most is the sums' own rounding.
    assert changes[1] / changes[0] > 100
    assert changes[2] / changes[1] == pytest.approx(2**3, rel=0.5)


def test_more_than_rounding_is_said() -> None:
    assert verdict(1.34, 21.0, 1.2, "bfloat16")[0]
    fine, why = verdict(9.0, 21.0, 1.2, "bfloat16")
    assert not fine
    assert "more than rounding explains" in why
    assert "evaluate it" in why
