"""Keys that were renamed: recipes are told the new name, stored variants keep the old one."""

import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import SettingsError
from kamerton.core.settings import Settings
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.objectives.ppo import PpoSettings
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
        "start": "before",
        "data": {"train": "train.jsonl"},
        "adapter": {"kind": "lora", "rank": 16, "decompose": true, "rate_ratio": 4.0},
        "objective": {
            "kind": "ppo", "samples": 3, "updates": 2, "clip": 0.1, "missing_end_penalty": 0.5,
            "discount": 0.9, "smoothing": 0.8,
            "rewards": [{"kind": "check", "check": {"kind": "exact"}}]
        },
        "train": {
            "epochs": 3, "optimiser": "adamw", "state_rank": 64, "clip": 0.5, "recompute": "none"
        },
        "evaluate": {"checks": [{"kind": "exact"}], "level": 0.9}
    },
    "data": {"place": "train.jsonl", "fingerprint": "f", "num_train": 1, "num_holdout": 0},
    "kamerton_version": "0", "created": "2026-11-01T00:00:00Z"
}"""
"""As it was written before any key was renamed."""

RENAMED = (
    ("adapter.", "prefix", {"num_tokens": "num_virtual_tokens"}),
    ("adapter.", "prompt", {"num_tokens": "num_virtual_tokens"}),
    ("adapter.", "lora", {"decompose": "dora", "rate_ratio": "lora_plus_ratio"}),
    (
        "objective.",
        "ppo",
        {
            "clip": "clip_epsilon",
            "discount": "gamma",
            "missing_end_penalty": "missing_eos_penalty",
            "samples": "num_generations",
            "smoothing": "gae_lambda",
            "updates": "num_iterations",
        },
    ),
    ("objective.", "dpo", {"form": "loss_type", "nll": "nll_weight"}),
    ("objective.", "grpo", {"scale": "scale_rewards"}),
    (
        "objective.",
        "kto",
        {"bad_weight": "undesirable_weight", "good_weight": "desirable_weight"},
    ),
    ("objective.", "reward", {"centre": "center_rewards"}),
    ("objective.", "simpo", {"nll": "nll_weight"}),
    ("", "", {"start": "start_from"}),
    ("evaluate.", "", {"level": "confidence_level"}),
    (
        "train.",
        "",
        {
            "clip": "max_grad_norm",
            "recompute": "gradient_checkpointing",
            "state_rank": "apollo_rank",
        },
    ),
)
"""Table, its kind, new names by old ones."""
CASES = [(table, kind, *pair) for table, kind, pairs in RENAMED for pair in pairs.items()]


@pytest.mark.parametrize(("table", "kind", "old", "new"), CASES)
def test_an_old_key_names_the_new_one(
    tmp_path: Path, table: str, kind: str, old: str, new: str
) -> None:
    path = tmp_path / "recipe.toml"
    lines = ['name = "desk"', 'data.train = "train.jsonl"']
    lines += [f'{table}kind = "{kind}"'] if kind else []
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        Recipe.read(path, [f"{table}{old}=1"])
    told = f"{path}: {table}{old} is now {table}{new}"
    assert told in raised.value.message.splitlines()


def test_a_stored_variant_is_read_with_its_old_keys() -> None:
    manifest = VariantManifest.model_validate_json(MANIFEST)
    assert manifest.identity() == manifest.content_hash
    recipe = recipe_of(Variant(Path("desk"), manifest))
    assert (recipe.start_from, recipe.evaluate.confidence_level) == ("before", 0.9)
    assert isinstance(recipe.adapter, LoraSettings)
    assert (recipe.adapter.dora, recipe.adapter.lora_plus_ratio) == (True, 4.0)
    objective = recipe.objective
    assert isinstance(objective, PpoSettings)
    assert (objective.num_generations, objective.num_iterations) == (3, 2)
    assert (objective.clip_epsilon, objective.missing_eos_penalty) == (0.1, 0.5)
    assert (objective.gamma, objective.gae_lambda) == (0.9, 0.8)
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
    renamed = [
        (one, *pair)
        for one in settings_in(Recipe)
        for owner in one.__mro__
        for pair in vars(owner).get("renamed_keys", {}).items()
    ]
    assert {(old, new) for _, old, new in renamed} == {case[2:] for case in CASES}
    for one, old, new in renamed:
        assert {old, new} & one.model_fields.keys() == {new}, (one, old, new)
