"""The date that a chat template writes: a run keeps the one that it began with."""

from datetime import UTC, datetime
from pathlib import Path

from kamerton.core.files import write_atomically
from kamerton.data.rendering.templates import writes_date
from kamerton.flows.recipe import Recipe
from kamerton.models.base import Base
from kamerton.models.new_tokens import tokenizer_with
from kamerton.training.loop import CHECKPOINT_FILE

__all__ = ["dated"]

_DATE_FILE = "date.txt"


def dated(recipe: Recipe, base: Base, folder: Path, *, fresh: bool = False) -> Recipe:
    """Give a recipe the date that its chat template writes.

    Without it a run that is resumed after midnight would go on with other tokens, and a variant
    would be asked with another prompt than it learned from.

    Args:
        recipe: The recipe as it was written.
        base: The base, whose template may ask for a date.
        folder: The run's folder.
        fresh: Whether the run begins anew.

    Returns:
        The recipe with a date: its own, that of the run that goes on, or today's; as it was where
        the template writes no date.
    """
    if recipe.render.date or not writes_date(
        tokenizer_with(base.tokenizer, recipe.adapter.added_tokens)
    ):
        return recipe
    path = folder / _DATE_FILE
    goes_on = not fresh and (folder / CHECKPOINT_FILE).is_file()
    date = path.read_text(encoding="utf-8").strip() if goes_on and path.is_file() else ""
    if not date:
        date = datetime.now(UTC).astimezone().date().isoformat()
        write_atomically(path, date)
    render = {**recipe.render.model_dump(), "date": date}
    return recipe.model_copy(update={"render": type(recipe.render).parse(render, source=str(path))})
