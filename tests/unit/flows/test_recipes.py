"""Every recipe of the repository is found, understood, and its adapter fits its base."""

from pathlib import Path

import pytest

from kamerton.adapters.adapter import trainable_share
from kamerton.adapters.catalogue import attach
from kamerton.flows.recipe import Recipe
from kamerton.models.load import load_base
from tests.contract.test_adapters import filled_bottlenecks

FOLDER = Path(__file__).parents[3] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.toml"))


def test_there_are_recipes() -> None:
    assert RECIPES


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
