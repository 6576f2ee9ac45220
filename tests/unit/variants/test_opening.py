"""A variant opens where its base is now, with the template it learned with, or says why not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from kamerton.core.errors import ModelError, VariantError
from kamerton.core.events import Event, Notice
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models import load
from kamerton.models.load import find_base
from kamerton.store.variants import Variant, read_variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import probe_ids
from tests.e2e.project import make_project

COMMIT = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("opening")


@pytest.fixture(scope="module")
def variant(folder: Path) -> Variant:
    """Made over a base as the Hub's cache holds it, which is gone afterwards."""
    place = folder / "models--acme--small" / "snapshots" / COMMIT
    shutil.copytree(find_base("builtin:nano"), place)
    path = make_project(folder, num_rows=12)
    options = ("train.max_steps=2", "train.learning_rate=1e-2", f"base.id={place}")
    recipe = Recipe.read(path, options)
    made = make_variant(recipe, folder, Workspace(folder), lambda event: None)
    shutil.move(place, folder / "moved")
    return read_variant(made.variant.folder)


def test_a_base_that_moved_is_named_by_hand(variant: Variant, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_base_for(variant)
    assert "--base PLACE says where the base is now" in str(caught.value.hint)
    opening = Opening(base=str(folder / "moved"), dtype="bfloat16", device="cpu")
    assert str(load_base_for(variant, opening).dtype) == "torch.bfloat16"
    opening = Opening(base=str(folder / "moved"))
    assert export_variant(variant, tmp_path / "out", "merged", opening=opening).largest < 1e-3


def test_another_template_is_a_warning_and_the_own_one_is_used(
    variant: Variant, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "moved", tmp_path / "base")
    path = tmp_path / "base/tokenizer_config.json"
    plain = json.loads(path.read_text())
    other = plain["chat_template"].replace("<|assistant|>\n", "<|assistant|> ")
    path.write_text(json.dumps({**plain, "chat_template": other}))
    heard: list[Event] = []
    bases = [
        load_base_for(variant, Opening(base=str(place), sink=heard.append))
        for place in (folder / "moved", tmp_path / "base")
    ]
    (notice,) = (event for event in heard if isinstance(event, Notice))
    assert notice.level == "warning"
    assert "another chat template than 'desk' was trained with" in notice.message
    before, now = (probe_ids(make_ready(variant, base).renderer) for base in bases)
    assert now == before


def test_other_weights_are_an_error(variant: Variant, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "moved", tmp_path / "base")
    tensors = load_file(tmp_path / "base/model.safetensors")
    next(iter(tensors.values()))[0, 0] += 1
    save_file(tensors, tmp_path / "base/model.safetensors", {"format": "pt"})
    with pytest.raises(VariantError, match="other weights"):
        load_base_for(variant, Opening(base=str(tmp_path / "base")))


def test_the_commit_is_recorded_and_asked_for(
    variant: Variant, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert variant.manifest.base.commit == COMMIT
    asked: list[Any] = []

    def from_hub(name: str, commit: str, **_: Any) -> Path:
        asked.append((name, commit))
        return folder / "moved"

    monkeypatch.setattr(load, "from_hub", from_hub)
    load_base_for(variant)
    load_base_for(variant, Opening(base="acme/other"))
    assert asked == [(variant.manifest.recipe["base"]["id"], COMMIT), ("acme/other", "")]
