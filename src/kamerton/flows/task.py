"""Make a recipe, examples and a base into the training loop's task."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.with_score_head import WithScoreHead, with_head
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.data.examples import Example
from kamerton.data.prepared import Prepared
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import TokenizedPrompt, TrainingExample, num_tokens
from kamerton.data.rendering.unknown import say_unknown
from kamerton.flows.prepare import render_all
from kamerton.flows.recipe import Recipe
from kamerton.flows.start import ensure_same_weights
from kamerton.flows.teaching import taught
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.objectives.catalogue import make_objective
from kamerton.objectives.objective import Online
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.reward import RewardSettings
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant
from kamerton.training.defaults import auto_learning_rate
from kamerton.training.forgetting import num_general_tokens
from kamerton.training.online import examine_online, make_rollouts, reference_of
from kamerton.training.references import cached_references
from kamerton.training.reward_functions import function_hashes
from kamerton.training.rollouts import Distance
from kamerton.training.task import Task
from kamerton.variants.rendering import renderer_of

__all__ = ["TaskVariants", "first_ids", "make_task"]


@dataclass(frozen=True, eq=False, slots=True)
class TaskVariants:
    """The variants that a new one is made with.

    Attributes:
        start: The variant that it goes on from; None begins afresh.
        members: Variants that it joins.
        reward_variants: Variants that judge what it writes.
        teacher: The variant whose probabilities it learns; None without one.
        folder: The folder that the recipe's paths are relative to.
    """

    start: Variant | None
    members: Sequence[Variant]
    reward_variants: Sequence[Variant]
    folder: Path
    teacher: Variant | None = None

    @property
    def parents(self) -> list[Variant]:
        """All of them."""
        start = [self.start] if self.start else []
        teacher = [self.teacher] if self.teacher else []
        return [*start, *self.members, *self.reward_variants, *teacher]


def make_task(
    recipe: Recipe,
    examples: Prepared,
    base: Base,
    prompt: Prompt,
    variants: TaskVariants,
    workspace: Workspace,
    sink: Sink,
) -> Task:
    """Render the examples and attach an adapter: a fresh one, or that of the starting variant.

    Args:
        recipe: The recipe to make.
        examples: The examples to learn from and to measure on.
        base: The base without an adapter.
        prompt: The prompt before every conversation.
        variants: Variants that the new one is made with.
        workspace: The workspace of runs and references.
        sink: Receives notices and progress.

    Returns:
        The task for the loop.

    Raises:
        KamertonError: If data, adapter, settings or variants do not fit.
    """
    start = variants.start
    objective = make_objective(recipe.objective)
    renderer = renderer_of(base, recipe.render, recipe.adapter.added_tokens)
    for notice in renderer.facts.notices:
        sink(Notice(notice))

    def render(
        some: Sequence[Example], what: str, learned: Sequence[Example] = ()
    ) -> list[TrainingExample]:
        return render_all(
            renderer, prompt, some, sink, what, recipe.data.max_unusable,
            takes=objective.takes, kind=recipe.objective.kind, learned=learned,
        )  # fmt: skip

    train_rows = render(examples.train, translated("training examples"))
    say_unknown(base.tokenizer, train_rows, sink)
    held_rows = render(examples.holdout, translated("held-out examples"), examples.train)
    teachings = None
    if variants.teacher is not None:
        # Its adapter is attached alone, before the student's.
        ask_about = partial(taught, recipe, variants.teacher, base, workspace=workspace, sink=sink)
        teachings = (
            ask_about(examples.train, train_rows, translated("training examples")),
            ask_about(examples.holdout, held_rows, translated("held-out examples")),
        )
    adapter = _attached(recipe, base, variants, train_rows[0])
    _check_room(base, [*train_rows, *held_rows])
    folder = workspace.runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    references, rollouts, distance = None, None, None
    if isinstance(objective, Online):
        examine_online(
            objective.settings, recipe.adapter, recipe.train, train_rows, variants.reward_variants,
            base, sink,
        )  # fmt: skip
        rollouts, adapter = make_rollouts(
            objective, recipe.train, base, adapter, renderer, variants.reward_variants,
            variants.folder, goes_on=start is not None, new_tokens=recipe.adapter.added_tokens,
        )  # fmt: skip
    if objective.needs_reference:
        ask = partial(
            cached_references, base, adapter, start=start.manifest.content_hash if start else "",
            new_tokens=recipe.adapter.added_tokens,
            tokens_per_row=recipe.train.tokens_per_row, folder=workspace.references, sink=sink,
        )  # fmt: skip
        references = (ask(train_rows), ask(held_rows))
    # Without a reference that holds it, a model may still leave the variant that it began as.
    writes = objective.takes in ("pairs", "feedback") and objective.reads != "scores"
    if writes and (objective.needs_reference or start is not None):
        distance = _distance(recipe, base, adapter, renderer)
    return Task(
        name=recipe.name,
        base=base,
        adapter=adapter,
        objective=objective,
        train=train_rows,
        holdout=held_rows,
        settings=recipe.train,
        folder=folder,
        identity=_identity(recipe, examples, base, variants, train_rows, held_rows),
        references=references,
        teachings=teachings,
        starts_as_reference=start is not None or adapter.capabilities.identity_at_start,
        rollouts=rollouts,
        distance=distance,
        auto_rate=_auto_rate(recipe, base),
        num_tokens_after=sum(map(num_tokens, held_rows)) + 2 * num_general_tokens(renderer),
    )


def _auto_rate(recipe: Recipe, base: Base) -> tuple[float, str]:
    config = base.model.config.get_text_config()
    width = int(base.model.get_input_embeddings().weight.shape[1])
    return auto_learning_rate(recipe.adapter, recipe.objective.kind, width, str(config.model_type))


def first_ids(example: TrainingExample) -> NDArray[np.int32]:
    """Say what an example begins with: a text, or a prompt that is not answered yet.

    Args:
        example: An example.

    Returns:
        [T] token ids.
    """
    return example.ids if isinstance(example, TokenizedPrompt) else example.answers[0].ids


def _attached(
    recipe: Recipe, base: Base, variants: TaskVariants, first: TrainingExample
) -> Adapter:
    """The adapter that learns, on the base."""
    if variants.start is None:
        for member in variants.members:
            ensure_same_weights(member, base)
        files = [member.files() for member in variants.members]
        opening = first_ids(first).tolist()
        adapter = attach(base, recipe.adapter, recipe.train.seed, opening, files)
    else:
        ensure_same_weights(variants.start, base)
        adapter = load(base, variants.start.manifest.method, variants.start.files())
    if isinstance(recipe.objective, RewardSettings):
        adapter = _judging(base, adapter, recipe.objective.num_scores, recipe.train.seed)
    return adapter


def _distance(recipe: Recipe, base: Base, adapter: Adapter, renderer: Renderer) -> Distance | None:
    """The measure of how far the model goes from its reference."""
    if recipe.start_from and adapter.capabilities.trains_base:
        # The reference would be a second copy of the weights.
        return None
    engine = EmbeddedEngine(base, renderer, tokens_per_row=recipe.train.tokens_per_row)
    reference = reference_of(adapter, goes_on=bool(recipe.start_from))
    return Distance(base, engine, reference, recipe.generation.max_new_tokens)


def _judging(base: Base, adapter: Adapter, num_scores: int, seed: int) -> WithScoreHead:
    """Put a score head beside an adapter that has none."""
    if not isinstance(adapter, WithScoreHead):
        return with_head(base, adapter, num_scores, seed)
    if adapter.head.num_scores != num_scores:
        raise SettingsError(
            f"objective.model: the starting variant gives {adapter.head.num_scores} numbers an "
            f"answer, the recipe wants {num_scores}"
        )
    return adapter


def _check_room(base: Base, rows: Sequence[TrainingExample]) -> None:
    """Refuse virtual tokens that leave too little of the base's context to an example."""
    room = room_of(base)
    # A prompt without an answer needs room for one.
    longest = max(
        max((len(answer.ids) for answer in row.answers), default=row.num_prompt + 1) for row in rows
    )
    if room is not None and base.num_virtual and longest > room:
        raise AdapterError(
            f"adapter.num_virtual_tokens: {base.num_virtual} virtual tokens and the longest "
            f"example of {longest} tokens do not fit into the base's context of "
            f"{room + base.num_virtual}",
            hint=f"set render.max_tokens = {room}, or fewer virtual tokens",
        )


def _identity(
    recipe: Recipe,
    examples: Prepared,
    base: Base,
    variants: TaskVariants,
    train_rows: Sequence[TrainingExample],
    held_rows: Sequence[TrainingExample],
) -> str:
    """List everything that must be the same for a checkpoint to lead to the same weights."""
    made_of = recipe.model_dump(
        mode="json",
        exclude={
            "name",
            "purpose",
            "audience",
            "generation",
            "evaluate",
            "log",
            "data",
            "base",
        },
    )
    # When to save is no part of what is computed; how rows are packed is, by its rounding.
    del made_of["train"]["checkpoint_every_s"]
    held = examples.loaded_holdout
    made_of["data"] = {
        "examples": examples.loaded.fingerprint[:12],
        "holdout": held.fingerprint[:12] if held else recipe.data.holdout,
        "seed": recipe.data.seed,
    }
    if recipe.data.test and not isinstance(recipe.data.test, str):
        made_of["data"]["test"] = recipe.data.test
    # A template or a release of Kamerton may write the same examples in another way.
    made_of["tokens"] = {"train": _rows_hash(train_rows), "holdout": _rows_hash(held_rows)}
    identity = base.identity
    made_of["base"] = {
        "weights": identity.weight_hash,
        "tokenizer": identity.tokenizer_hash,
        "template": identity.template_hash,
        "quantise": identity.quantise,
        "dtype": str(base.dtype),
    }
    parents = [*([variants.start] if variants.start else []), *variants.members]
    made_of["start_from"] = ", ".join(parent.manifest.content_hash for parent in parents)
    if variants.teacher is not None:
        made_of["teacher"] = variants.teacher.manifest.content_hash
    if isinstance(recipe.objective, OnlineSettings):
        rewards = {one.name: one.manifest.content_hash[:12] for one in variants.reward_variants}
        made_of["rewards"] = rewards | function_hashes(recipe.objective, variants.folder)
    made_of["machine"] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(base.device),
    }
    return json.dumps(made_of, sort_keys=True)


def _rows_hash(rows: Sequence[TrainingExample]) -> str:
    """Hash token ids and what of them is learned."""
    found = sha256()
    for row in rows:
        for answer in row.answers:
            found.update(np.array([len(answer.ids), row.num_prompt]).tobytes())
            found.update(answer.ids.tobytes())
            found.update(answer.loss_mask.tobytes())
        if isinstance(row, TokenizedPrompt):
            found.update(row.ids.tobytes())
    return found.hexdigest()[:12]
