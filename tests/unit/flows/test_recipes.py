"""Every recipe of the repository is found, understood, and its adapter fits its base."""

from pathlib import Path

import pytest

from kamerton.adapters.adapter import trainable_share
from kamerton.adapters.catalogue import METHODS, attach
from kamerton.core.errors import SettingsError
from kamerton.flows.recipe import Recipe
from kamerton.models.load import load_base
from kamerton.objectives.catalogue import OBJECTIVES, make_objective, record_of
from kamerton.objectives.objective import Online
from kamerton.objectives.rloo import Rloo
from tests.contract.test_adapters import filled_bottlenecks

ONLINE = """
name = "helper"
data = { train = "prompts.jsonl" }

[objective]
kind = "KIND"
rewards = [{ kind = "check", check = { kind = "json" } }, { kind = "variant", variant = "judge" }]
"""
FOLDER = Path(__file__).parents[3] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.toml"))


def test_there_is_a_recipe_of_every_method_and_objective() -> None:
    recipes = [Recipe.read(path) for path in RECIPES]
    assert {method.kind for method in METHODS} <= {recipe.adapter.kind for recipe in recipes}
    objectives = {record_of(recipe.objective.kind) for recipe in recipes}
    assert objectives == set(OBJECTIVES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_its_base(path: Path) -> None:
    recipe = Recipe.read(path)
    assert recipe.name == path.stem
    assert (path.parent / recipe.data.train).is_file()
    if recipe.base.id != "builtin:nano":
        return
    base = load_base(recipe.base.id, dtype=recipe.base.dtype, quantise=recipe.base.quantise)
    members = filled_bottlenecks(base) if recipe.adapter.kind == "fusion" else ()
    adapter = attach(base, recipe.adapter, seed=0, opening=range(5, 16), members=members)
    assert 0 < trainable_share(adapter, base.identity.num_parameters)["share"] <= 1


@pytest.mark.parametrize("kind", ["rloo", "rlhf", "grpo", "ppo", "drpo"])
def test_a_recipe_names_its_rewards(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "helper.toml"
    path.write_text(ONLINE.replace("KIND", kind), encoding="utf-8")
    recipe = Recipe.read(path)
    objective = make_objective(recipe.objective)
    assert isinstance(objective, Online)
    assert [source.kind for source in objective.settings.rewards] == ["check", "variant"]
    assert isinstance(objective, Rloo) is (kind in ("rloo", "rlhf"))
    assert Recipe.parse(recipe.to_plain()) == recipe


def test_an_unknown_objective_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "helper.toml"
    path.write_text(ONLINE.replace("KIND", "wishes"), encoding="utf-8")
    with pytest.raises(
        SettingsError, match="known: distillation, dpo, drpo, grpo, kto, .*, sft, simpo"
    ):
        Recipe.read(path)
    with pytest.raises(SettingsError, match=r"'objective\.rewards' is required"):
        Recipe.parse({"name": "helper", "data": {"train": "a"}, "objective": {"kind": "ppo"}})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("adapter", "lora", "adapter must be a table, got 'lora'; write adapter.kind = \"lora\""),
        ("data", "desk.jsonl", "data must be a table, got 'desk.jsonl'"),
    ],
)
def test_a_word_where_a_table_belongs(key: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Recipe.parse({"name": "x", "data": {"train": "desk.jsonl"}, key: value})
    assert str(caught.value) == f"settings: {said}"
