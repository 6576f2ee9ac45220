"""Keys that were renamed: recipes are told the new name, stored variants keep the old one."""

import json
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import SettingsError
from kamerton.core.settings import Settings
from kamerton.flows.recipe import Recipe
from kamerton.flows.variants import recipe_of
from kamerton.store.manifest import VariantManifest
from kamerton.store.variants import Variant

MANIFEST = """{
    "format_version": 2, "name": "desk", "method": "lora", "objective": "ppo", "seed": 0,
    "content_hash": "edb3e61b91204a4206eada34046489911b7ba47558b1558c8f7bdf9fce7b830c",
    "base": {
        "id": "b", "architecture": "A", "num_parameters": 1, "weight_hash": "w",
        "tokenizer_hash": "t", "template_hash": "c", "quantise": "none"
    },
    "prompt": {"system": "", "demonstrations": []},
    "recipe": {
        "name": "desk",
        "data": {"train": "train.jsonl"},
        "adapter": {"kind": "lora", "rank": 16, "decompose": true, "rate_ratio": 4.0},
        "train": {
            "epochs": 3, "optimiser": "adamw", "state_rank": 64, "clip": 0.5, "recompute": "none"
        }
    },
    "data": {"place": "train.jsonl", "fingerprint": "f", "num_train": 1, "num_holdout": 0},
    "kamerton_version": "0", "created": "2026-11-01T00:00:00Z"
}"""
"""As it was written before any key was renamed."""

RENAMED = {
    "adapter.decompose": "adapter.dora",
    "adapter.rate_ratio": "adapter.lora_plus_ratio",
    "train.clip": "train.max_grad_norm",
    "train.recompute": "train.gradient_checkpointing",
    "train.state_rank": "train.apollo_rank",
}


def written(tmp_path: Path, key: str, value: object = 1) -> tuple[Path, str]:
    """A recipe, and an override that sets a key of it."""
    path = tmp_path / "recipe.toml"
    path.write_text('name = "desk"\ndata.train = "train.jsonl"\n', encoding="utf-8")
    return path, f"{key}={json.dumps(value)}"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_names_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    path, override = written(tmp_path, old)
    with pytest.raises(SettingsError, match=rf"recipe\.toml: {old} is now {new}$"):
        Recipe.read(path, [override])


def test_a_stored_variant_is_read_with_its_old_keys() -> None:
    manifest = VariantManifest.model_validate_json(MANIFEST)
    assert manifest.identity() == manifest.content_hash
    recipe = recipe_of(Variant(Path("desk"), manifest))
    assert isinstance(recipe.adapter, LoraSettings)
    assert (recipe.adapter.dora, recipe.adapter.lora_plus_ratio) == (True, 4.0)
    train = recipe.train
    assert (train.apollo_rank, train.max_grad_norm) == (64, 0.5)
    assert train.gradient_checkpointing == "none"


def settings_in(model: type[BaseModel]) -> set[type[Settings]]:
    """All settings classes that a model holds."""
    found: set[type[Settings]] = set()
    waiting: list[typing.Any] = [model]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, Settings) and one not in found:
            found.add(one)
            waiting += [field.annotation for field in one.model_fields.values()]
        waiting += typing.get_args(one)
    return found


def test_every_new_key_is_there_and_no_old_one() -> None:
    renamed = [(one, *pair) for one in settings_in(Recipe) for pair in one.renamed_keys.items()]
    assert len({new for _, _, new in renamed}) == len(RENAMED)
    for one, old, new in renamed:
        assert {old, new} & one.model_fields.keys() == {new}, (one, old, new)
