"""The teacher of a distillation: found, held against the student, and asked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.events import Sink
from kamerton.core.files import hash_json
from kamerton.core.language import translated
from kamerton.data.examples import Example
from kamerton.data.rendering.tokenized import RenderSettings, TrainingExample
from kamerton.flows.prepare import render_all
from kamerton.flows.recipe import Recipe
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.models.context import longest_row
from kamerton.models.rows.row import num_labelled
from kamerton.objectives.distillation import DistillationSettings
from kamerton.store.variants import Variant, find_variant
from kamerton.training.references import digest_of
from kamerton.training.teachings import Teaching, ask_teacher, cached_teachings
from kamerton.variants.load import Opening, load_base_for, with_template_of
from kamerton.variants.opening import ensure_writes, make_ready, prompt_of, render_of
from kamerton.variants.rendering import renderer_of

__all__ = ["read_teacher", "taught"]


def read_teacher(recipe: Recipe, workspace: Workspace) -> Variant | None:
    """Read the variant that a recipe learns from.

    Args:
        recipe: Names it in `objective.teacher` if it distils.
        workspace: The workspace that has it.

    Returns:
        The teacher; None for other objectives.

    Raises:
        SettingsError: If a distillation names no teacher, or its own name.
        VariantError: If the teacher is missing, damaged, or a reward model.
    """
    if not isinstance(recipe.objective, DistillationSettings):
        return None
    name = recipe.objective.teacher
    if not name or name == recipe.name:
        raise SettingsError(
            translated(
                "objective.teacher: a distillation needs the name of another variant to "
                "learn from, got {name!r}",
                name=name,
            ),
            hint=translated(
                "kamerton variant list names those there are; a prompt is one too "
                '(adapter.kind = "none")'
            ),
        )
    teacher = find_variant(name, workspace.variants, key="objective.teacher")
    ensure_writes(teacher, "learned from")
    return teacher


def taught(
    recipe: Recipe,
    teacher: Variant,
    base: Base,
    examples: Sequence[Example],
    rows: Sequence[TrainingExample],
    what: str,
    workspace: Workspace,
    sink: Sink,
) -> list[Teaching]:
    """Ask the teacher about rows that the student learns from.

    Args:
        recipe: Distils.
        teacher: The teacher.
        base: The student's base, with nothing attached.
        examples: The examples that the rows were made of.
        rows: The student's rows.
        what: Names them in messages.
        workspace: Keeps what the teacher said.
        sink: Receives progress.

    Returns:
        What it says of each row.

    Raises:
        VariantError: If teacher and student have different tokens.
        RenderingError: If the teacher's template writes an answer in other tokens.
    """
    assert isinstance(recipe.objective, DistillationSettings)
    ours = recipe.objective
    if not rows:
        return []
    _ensure_same_tokens(teacher, base)
    with _teacher_base(teacher, base, sink) as of_teacher:
        same: dict[str, object] = {"max_tokens": longest_row(of_teacher.model.config)}
        same |= {"train_on": recipe.render.train_on, "overlong": recipe.render.overlong}
        render: RenderSettings = render_of(teacher).model_copy(update=same)
        renderer = renderer_of(of_teacher, render, teacher.manifest.new_tokens)
        asked = _aligned(
            render_all(renderer, prompt_of(teacher), examples, sink, f"{what} for the teacher"),
            rows,
        )
        made_of = [
            digest_of(asked), teacher.manifest.content_hash, of_teacher.identity.weight_hash,
            of_teacher.identity.quantise, str(of_teacher.dtype), ours.top, ours.temperature,
        ]  # fmt: skip
        path = workspace.references / f"teacher-{hash_json(made_of)[:32]}.npz"

        def ask() -> list[Teaching]:
            adapter = make_ready(teacher, of_teacher).adapter
            try:
                size = recipe.train.tokens_per_row
                return ask_teacher(of_teacher, asked, ours.top, ours.temperature, size, sink)
            finally:
                if adapter is not None:
                    adapter.detach()

        counts = [num_labelled([row]) for row in asked]
        return cached_teachings(path, counts, ours.temperature, ask, sink)


def _ensure_same_tokens(teacher: Variant, base: Base) -> None:
    made, here = teacher.manifest.base.tokenizer_hash, base.identity.tokenizer_hash
    if made != here:
        raise VariantError(
            translated(
                "objective.teacher: '{name}' has another tokenizer than {id}: its "
                "probabilities are of other tokens",
                name=teacher.name,
                id=base.identity.id,
            ),
            hint=translated(
                "let it answer, and learn from the answers: kamerton predict {name} FILE "
                "--to answers.jsonl",
                name=teacher.name,
            ),
        )


@contextmanager
def _teacher_base(teacher: Variant, base: Base, sink: Sink) -> Iterator[Base]:
    """The student's base where the teacher has the same, else its own while it is asked."""
    record, identity = teacher.manifest.base, base.identity
    if (record.weight_hash, record.quantise) == (identity.weight_hash, identity.quantise):
        yield with_template_of(teacher, base)
    else:
        yield load_base_for(teacher, Opening(device=str(base.device), sink=sink))


def _aligned(
    asked: Sequence[TrainingExample], rows: Sequence[TrainingExample]
) -> list[TrainingExample]:
    """Find for every row of the student the same answer as the teacher reads it."""
    by_place: dict[object, list[TrainingExample]] = {}
    for row in asked:
        by_place.setdefault(row.answers[0].location, []).append(row)
    found = []
    for row in rows:
        waiting = by_place.get(row.answers[0].location, [])
        match = next((one for one in waiting if _same_answer(one, row)), None)
        if match is None:
            raise VariantError(
                translated(
                    "objective.teacher: at {location} the teacher's template writes the "
                    "answer in other tokens, or its prompt leaves no room for it",
                    location=row.answers[0].location,
                ),
                hint=translated(
                    "let it answer, and learn from the answers; or give it a shorter prompt"
                ),
            )
        waiting.remove(match)
        found.append(match)
    return found


def _same_answer(one: TrainingExample, other: TrainingExample) -> bool:
    (first,), (second,) = one.answers, other.answers
    return np.array_equal(first.ids[first.loss_mask], second.ids[second.loss_mask])
