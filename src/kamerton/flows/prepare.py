"""What several verbs begin with: examples, prompt, rendered rows."""

from collections.abc import Sequence
from pathlib import Path

from kamerton.core.errors import DataError, RenderingError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.data.dataset import Prepared, prepare
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
)
from kamerton.data.rendering import Rendered, Renderer, chat_of
from kamerton.data.settings import DataSettings
from kamerton.flows.recipe import Recipe
from kamerton.prompting.demonstrations import Candidate, choose_demonstrations
from kamerton.prompting.prompt import Prompt

__all__ = ["make_prompt", "read_examples", "render_all"]

_SHOWN_REASONS = 3


def read_examples(recipe: Recipe, folder: Path, sink: Sink) -> Prepared:
    """Read and split a recipe's examples.

    Args:
        recipe: The recipe.
        folder: What its paths are relative to.
        sink: Receives progress and notices.

    Returns:
        Examples to learn from and to measure on.

    Raises:
        DataError: If too many rows are unusable or nothing is left.
    """

    def report(done: int, total: int | None) -> None:
        sink(Progress("reading examples", done, total, "bytes"))

    prepared = prepare(_relative_to(recipe.data, folder), report=report)
    for loaded in (prepared.loaded, prepared.loaded_holdout):
        if loaded is not None and loaded.rejections:
            sink(
                Notice(
                    f"{len(loaded.rejections)} of {loaded.num_rows} rows of {loaded.source} "
                    f"cannot be used, the first: {loaded.rejections[0]}",
                    "warning",
                )
            )
    return prepared


def make_prompt(recipe: Recipe, train: Sequence[Example], shots: int | None = None) -> Prompt:
    """Build a recipe's prompt.

    Args:
        recipe: Gives system text and the number of demonstrations.
        train: Where demonstrations come from.
        shots: Another number of demonstrations than the recipe's.

    Returns:
        The prompt.
    """
    count = recipe.prompt.demonstrations if shots is None else shots
    if not count:
        return Prompt(system=recipe.prompt.system or None)
    candidates = [
        Candidate(chat_of(example)[0], example.label)
        for example in train
        if isinstance(example, ChatExample | ClassificationExample)
    ]
    chosen = choose_demonstrations(candidates, count, seed=recipe.train.seed)
    return Prompt(system=recipe.prompt.system or None, demonstrations=chosen)


def render_all(
    renderer: Renderer, prompt: Prompt, examples: Sequence[Example], sink: Sink, what: str
) -> list[Rendered]:
    """Turn examples into tokens and masks; say which could not be and why.

    Args:
        renderer: For the base.
        prompt: Put before every conversation, never trained.
        examples: What to render.
        sink: Receives progress and notices.
        what: Names the examples in messages.

    Returns:
        Rows in the order of the examples.

    Raises:
        DataError: If an example's kind cannot be learned from, or nothing could be rendered.
    """
    rows: list[Rendered] = []
    problems: list[str] = []
    for number, example in enumerate(examples, 1):
        if isinstance(example, PreferenceExample | FeedbackExample):
            raise DataError(
                f"{example.place}: preference and feedback rows cannot be learned with "
                'objective.kind = "sft"',
                hint="bring chats, prompt/completion rows, classified texts or plain text",
            )
        try:
            rows += renderer.render_rows(example, prompt.apply)
        except RenderingError as error:
            problems.append(error.message)
        if number % 200 == 0 or number == len(examples):
            sink(Progress(f"rendering {what}", number, len(examples), "examples"))
    if problems:
        listed = "; ".join(problems[:_SHOWN_REASONS])
        sink(Notice(f"{len(problems)} of {len(examples)} {what} dropped: {listed}", "warning"))
    if examples and not rows:
        raise DataError(
            f"none of the {len(examples)} {what} can be rendered: {problems[0]}",
            hint="kamerton check DATA --show 3 shows what happens to them",
        )
    return rows


def _relative_to(settings: DataSettings, folder: Path) -> DataSettings:
    """Read paths of a recipe relative to the recipe's own folder."""
    changed = {}
    for field in ("train", "holdout"):
        value = getattr(settings, field)
        if isinstance(value, str) and not value.startswith("hub:") and (folder / value).exists():
            changed[field] = str(folder / value)
    return settings.model_copy(update=changed)
