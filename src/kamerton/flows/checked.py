"""The input of `kamerton check`: data alone, or the data of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kamerton.core.errors import SettingsError
from kamerton.core.language import translated
from kamerton.core.settings import apply_overrides
from kamerton.data.examples import Example
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.data.settings import DataSettings
from kamerton.prompting.prompt import Prompt

if TYPE_CHECKING:
    from kamerton.flows.recipe import Recipe

__all__ = ["ToCheck", "read_checked"]

_DATA_ONLY = ("data", "render")


@dataclass(frozen=True, slots=True)
class ToCheck:
    """Data and how it is read and rendered.

    Attributes:
        data: The data's settings.
        render: The rendering of examples into tokens.
        base: The base whose template and context count; empty when only data was named.
        recipe: The recipe that has prompt and demonstrations, if there is one.
    """

    data: DataSettings
    render: RenderSettings
    base: str = ""
    recipe: "Recipe | None" = None

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """Tokens that the recipe's adapter brings along."""
        return self.recipe.adapter.added_tokens if self.recipe is not None else ()

    def prompt(self, train: Sequence[Example]) -> Prompt:
        """Make the prompt that training would put before every example.

        Args:
            train: The examples that demonstrations are taken from.

        Returns:
            The recipe's prompt; an empty one without a recipe.
        """
        if self.recipe is None:
            return Prompt()
        from kamerton.flows.prepare import make_prompt

        return make_prompt(self.recipe, train)


def read_checked(source: str, overrides: Sequence[str]) -> ToCheck:
    """Read what is to be checked.

    Args:
        source: A data file, a Hub data set, or a recipe ending in ".toml".
        overrides: `section.key=value`.

    Returns:
        Data and rendering.

    Raises:
        SettingsError: If a setting is wrong, or does not belong here.
    """
    if source.endswith(".toml"):
        # A recipe knows every method, and so needs PyTorch; data alone does not.
        from kamerton.flows.prepare import relative_to
        from kamerton.flows.recipe import Recipe

        path = Path(source)
        recipe = Recipe.read(path, overrides)
        data = relative_to(recipe.data, path.parent)
        return ToCheck(data, recipe.render, recipe.base.id, recipe)
    values = apply_overrides({"data": {"train": source}, "render": {}}, overrides)
    if unknown := sorted(values.keys() - set(_DATA_ONLY)):
        raise SettingsError(
            translated(
                "--set {unknown}: only data.* and render.* can be set here", unknown=unknown[0]
            ),
            hint=translated("kamerton train RECIPE --set takes every setting of a recipe"),
        )
    return ToCheck(
        DataSettings.parse(values["data"], source="--set data"),
        RenderSettings.parse(values["render"], source="--set render"),
    )
