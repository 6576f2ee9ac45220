"""Training as a function that a forked process runs: starting it costs no imports."""

from pathlib import Path

from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace

__all__ = ["train_in"]


def train_in(folder: Path, overrides: tuple[str, ...]) -> None:
    """Do what `kamerton train recipe.toml --set ...` does in a project's folder."""
    recipe = Recipe.read(folder / "recipe.toml", overrides)
    make_variant(recipe, folder, Workspace(folder), lambda event: None)
