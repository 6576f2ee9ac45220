"""The first steps of several verbs: examples, prompt, rendered rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kamerton.core.errors import DataError, RenderingError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.language import translated
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
)
from kamerton.data.prepared import Prepared, prepare
from kamerton.data.rendering.renderer import Renderer, chat_of
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.data.settings import DataSettings
from kamerton.flows.recipe import PromptSettings, Recipe
from kamerton.objectives.objective import Takes
from kamerton.prompting.demonstrations import PossibleDemonstration, choose_demonstrations
from kamerton.prompting.prompt import Prompt
from kamerton.training.training_examples import makers_of

__all__ = [
    "make_prompt",
    "read_examples",
    "relative_to",
    "render_all",
]

_SHOWN_REASONS = 3


def read_examples(recipe: Recipe, folder: Path, sink: Sink) -> Prepared:
    """Read and split a recipe's examples.

    Args:
        recipe: The recipe.
        folder: The folder that its paths are relative to.
        sink: Receives progress and notices.

    Returns:
        Examples to learn from and to measure on.

    Raises:
        DataError: If too many rows are unusable or nothing is left.
    """

    def report(done: int, total: int | None) -> None:
        sink(Progress(translated("reading examples"), done, total, "bytes"))

    prepared = prepare(relative_to(recipe.data, folder), report=report)
    for loaded in (prepared.loaded, prepared.loaded_holdout, prepared.loaded_test):
        if loaded is None:
            continue
        for notice in loaded.notices:
            sink(Notice(f"{loaded.source}: {notice}"))
        if loaded.rejections:
            sink(
                Notice(
                    translated(
                        "{num_rejections} of {num_rows} rows of {source} cannot be used, the "
                        "first: {value}",
                        num_rejections=len(loaded.rejections),
                        num_rows=loaded.num_rows,
                        source=loaded.source,
                        value=loaded.rejections[0],
                    ),
                    "warning",
                )
            )
    if unused := prepared.loaded.unused.named:
        sink(
            Notice(
                translated(
                    "nothing learns from {unused} of {source}",
                    unused=unused,
                    source=prepared.loaded.source,
                )
            )
        )
    files = [("data.train", prepared.loaded)]
    for name, held in (("holdout", prepared.loaded_holdout), ("test", prepared.loaded_test)):
        for other, before in files:
            if held is not None and held.fingerprint == before.fingerprint:
                raise DataError(
                    translated(
                        "data.{name} holds the same examples as {other}: what was learned or "
                        "chosen there proves nothing",
                        name=name,
                        other=other,
                    ),
                    hint=translated("give another file, or a share such as 0.1"),
                )
        files += [(f"data.{name}", held)] if held is not None else []
    return prepared


def make_prompt(recipe: Recipe, train: Sequence[Example], shots: int | None = None) -> Prompt:
    """Build a recipe's prompt.

    Args:
        recipe: Gives system text and the number of demonstrations.
        train: The examples that demonstrations are taken from; of pairs the better answers, of
            feedback those that were liked.
        shots: Another number of demonstrations than the recipe's, of the usual selection.

    Returns:
        The prompt.
    """
    count = recipe.prompt.demonstrations if shots is None else shots
    if not count:
        return Prompt(system=recipe.prompt.system or None)
    # The few-shot baseline is the same whatever the recipe shows.
    ours = recipe.prompt if shots is None else PromptSettings(system=recipe.prompt.system)
    seed = recipe.train.seed if ours.seed is None else ours.seed
    chosen = choose_demonstrations(_candidates(train), count, seed=seed, selection=ours.selection)
    return Prompt(
        system=ours.system or None,
        demonstrations=chosen,
        nearest=count if ours.selection == "nearest" else 0,
    )


def _candidates(train: Sequence[Example]) -> list[PossibleDemonstration]:
    """List what could be shown: an answer that was rejected or disliked anywhere is no model."""
    found, bad = [], set()
    for example in train:
        match example:
            case ChatExample() | ClassificationExample():
                found.append(PossibleDemonstration(chat_of(example)[0], example.label))
            case PreferenceExample():
                found.append(PossibleDemonstration((*example.prompt, *example.chosen)))
                bad.add(PossibleDemonstration((*example.prompt, *example.rejected)).content_hash)
            case FeedbackExample():
                candidate = PossibleDemonstration((*example.prompt, *example.completion))
                if example.is_desirable:
                    found.append(candidate)
                else:
                    bad.add(candidate.content_hash)
    return [candidate for candidate in found if candidate.content_hash not in bad]


def render_all(
    renderer: Renderer,
    prompt: Prompt,
    examples: Sequence[Example],
    sink: Sink,
    what: str,
    max_unusable: float = 1.0,
    *,
    takes: Takes = "texts",
    kind: str = "sft",
    learned: Sequence[Example] = (),
) -> list[TrainingExample]:
    """Turn examples into tokens and masks; say which could not be and why.

    Args:
        renderer: The base's renderer.
        prompt: The prompt before every conversation, never trained.
        examples: The examples to render.
        sink: Receives progress and notices.
        what: Names the examples in messages.
        max_unusable: Largest share that may be dropped, 0 to 1.
        takes: The kind of example that the objective learns from.
        kind: The objective's name in the recipe.
        learned: Training examples, where those to render are only measured on.

    Returns:
        The examples that can be learned, in their order.

    Raises:
        DataError: If an example's kind cannot be learned from, too many are dropped, or nothing
            could be rendered.
    """
    rows: list[TrainingExample] = []
    problems: list[str] = []
    notes, hints = Counter[str](), Counter[str]()
    makers = makers_of(renderer, prompt, examples, takes, kind, what=what, learned=learned)
    for number, make in enumerate(makers, 1):
        try:
            made = make()
            rows += made
            notes.update({note for answer in made[0].answers for note in answer.notes})
        except RenderingError as error:
            problems.append(error.message)
            hints.update([error.hint] if error.hint else [])
        if number % 200 == 0 or number == len(examples):
            sink(
                Progress(
                    translated("rendering {what}", what=what), number, len(examples), "examples"
                )
            )
    for note, count in notes.most_common(_SHOWN_REASONS):
        sink(Notice(f"{count} of {len(examples)} {what}: {note}"))
    if not problems:
        return rows
    listed = "; ".join(problems[:_SHOWN_REASONS])
    more = f"; and {len(problems) - _SHOWN_REASONS} more" * (len(problems) > _SHOWN_REASONS)
    found = f"{len(problems)} of {len(examples)} {what} cannot be used: {listed}{more}"
    if not rows or len(problems) > max_unusable * len(examples):
        raise DataError(
            translated(
                "{found} (data.max_unusable is {max_unusable:.1%})",
                found=found,
                max_unusable=max_unusable,
            )
            if rows
            else found,
            hint=(hints.most_common(1)[0][0] if hints else translated("mend them"))
            + (translated(", or raise data.max_unusable") if rows else "")
            + translated("; kamerton check DATA --show 3 shows what happens to them"),
        )
    sink(Notice(found, "warning"))
    return rows


def relative_to(settings: DataSettings, folder: Path) -> DataSettings:
    """Read paths of a recipe relative to the recipe's own folder.

    Args:
        settings: The recipe's data settings.
        folder: The recipe's.

    Returns:
        Settings whose paths are found from here.
    """
    changed = {}
    for field in ("train", "holdout", "test"):
        value = getattr(settings, field)
        if isinstance(value, str) and not value.startswith("hub:") and (folder / value).exists():
            changed[field] = str(folder / value)
    return settings.model_copy(update=changed)
