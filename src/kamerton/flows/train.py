"""`kamerton train`: make one variant from a recipe."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kamerton import __version__
from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import NoAdapterSettings
from kamerton.core.audience import AudienceSettings, shared_audience
from kamerton.core.errors import AdapterError, InterruptedRun, SettingsError, TrainingError
from kamerton.core.events import Notice, Progress, Sink, fan_out, under_way
from kamerton.core.language import translated
from kamerton.data.prepared import Prepared
from kamerton.data.questions import answer_form
from kamerton.data.rendering.templates import templates_of
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.data.ties import say_ties
from kamerton.flows.dates import dated
from kamerton.flows.finished import (
    forget_finished,
    key_of_run,
    note_finished,
    read_finished,
    stamps_of_data,
)
from kamerton.flows.prepare import make_prompt, read_examples
from kamerton.flows.recipe import Recipe
from kamerton.flows.start import read_members, read_start, taken_over
from kamerton.flows.task import TaskVariants, first_ids, make_task
from kamerton.flows.teaching import read_teacher
from kamerton.flows.unseen import trained_questions
from kamerton.flows.workspace import Workspace
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.load import ensure_here, load_base
from kamerton.prompting.prompt import Prompt
from kamerton.store.database import open_store
from kamerton.store.manifest import BaseRecord, DataRecord, VariantManifest
from kamerton.store.sink import record_run
from kamerton.store.trained_on import trained_on_any
from kamerton.store.variants import Variant, write_variant
from kamerton.training.findings import (
    explain,
    metrics_of,
    say_counts,
    say_fused_experts,
    say_no_base,
    say_slow_dtype,
)
from kamerton.training.forgetting import measure_general_loss, say_forgotten
from kamerton.training.loop import CHECKPOINT_FILE, FINISHED, train
from kamerton.training.memory import keep_few_kernels
from kamerton.training.rewards import read_reward_variants
from kamerton.training.sinks import jsonl_sink, tensorboard_sink
from kamerton.training.task import Outcome, Task
from kamerton.variants.load import say_other_template, say_unpacking, with_template_of
from kamerton.variants.rendering import renderer_of

__all__ = ["EVENTS_FILE", "Made", "make_variant"]

EVENTS_FILE = "events.jsonl"

Train = Callable[[Task, Sink, Callable[[], bool]], Outcome]
"""Trains a task: receives events by the sink, and is told when to stop."""

# Logits of so many of an example's last tokens show whether the head has learned.
_EFFECT_TOKENS = 16


@dataclass(frozen=True, eq=False)
class Made:
    """A finished variant.

    Attributes:
        variant: The folder and its manifest.
        outcome: The outcome of training; None for a prompt-only variant.
    """

    variant: Variant
    outcome: Outcome | None


def make_variant(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    fresh: bool = False,
    train: Train = train,
) -> Made:
    """Make a variant, going on from a checkpoint of the same run if there is one.

    Args:
        recipe: The recipe to make.
        folder: The folder that the recipe's paths are relative to.
        workspace: The workspace of runs, variants and store.
        sink: Receives events.
        should_stop: Asked after every step.
        fresh: Whether an earlier run of this name is forgotten.
        train: Trains the task; a forecast takes a sample of it.

    Returns:
        The variant.

    Raises:
        KamertonError: If data, base, adapter, training or store fail.
    """
    with _alone(workspace.runs / recipe.name, recipe.name):
        try:
            return _make_alone(recipe, folder, workspace, sink, should_stop, fresh, train)
        except InterruptedRun as error:
            if fresh and (workspace.runs / recipe.name / CHECKPOINT_FILE).exists():
                error.hint = translated("the same command without --fresh goes on from here")
            raise


def _make_alone(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
    fresh: bool,
    train: Train,
) -> Made:
    _use_threads(recipe.train.threads)
    keep_few_kernels()
    start = read_start(recipe, workspace)
    recipe = taken_over(recipe, start)
    members = read_members(recipe, workspace) if start is None else []
    reward_variants = read_reward_variants(recipe.objective, workspace.variants)
    teacher = read_teacher(recipe, workspace)
    others = TaskVariants(start, members, reward_variants, folder, teacher)
    # Refused before anything is computed, where nobody may use all that it is made from.
    _audience(recipe, others.parents)
    stamps = stamps_of_data(recipe, folder)
    say_unpacking(recipe.base.id, sink)
    key = key_of_run(recipe, folder, others.parents, stamps)
    finished = None if fresh else read_finished(key, recipe.name, workspace)
    if finished is not None:
        sink(FINISHED)
        return Made(*finished)
    ensure_here(recipe.base.id, recipe.base.device)
    say_no_base(recipe.base, sink)
    examples = read_examples(recipe, folder, sink)
    say_counts(examples, sink)
    say_ties(examples, recipe.data, sink)
    with under_way(translated("loading the base"), sink):
        base = load_base(
            recipe.base.id,
            dtype=recipe.base.dtype,
            device=recipe.base.device,
            quantise=recipe.base.quantise,
            sink=sink,
        )
    # A base that had to be fetched is only known now.
    key = key or key_of_run(recipe, folder, others.parents, stamps)
    say_slow_dtype(base, sink)
    say_fused_experts(base, recipe.adapter, sink)
    for parent in others.parents:
        say_other_template(parent, base, sink)
    if start is not None:
        base = with_template_of(start, base)
    recipe = dated(recipe, base, workspace.runs / recipe.name, fresh=fresh)
    prompt = make_prompt(recipe, examples.train)
    outcome, files, metrics = None, dict[str, bytes](), dict[str, float]()
    if not isinstance(recipe.adapter, NoAdapterSettings):
        task = make_task(recipe, examples, base, prompt, others, workspace, sink)
        if fresh:
            (task.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            forget_finished(recipe.name, workspace)
        outcome = _follow(task, recipe, workspace, sink, should_stop, train)
        files, metrics = dict(task.adapter.files()), metrics_of(task, outcome, sink)
        if start is not None and files == start.files():
            raise _no_effect(f"leaves '{start.name}' as it was")
        _ensure_effect(base, task.adapter, task.train[0])
        explain(metrics, sink)
        metrics |= _general_losses(recipe, base, task.adapter, sink)
    manifest = _manifest(recipe, folder, examples, base, prompt, metrics, others.parents)

    def kept(name: str) -> None:
        sink(
            Notice(
                translated(
                    "what '{name}' was before is kept as '{kept_as}'",
                    name=recipe.name,
                    kept_as=name,
                )
            )
        )

    # A prompt has learned nothing; its worked examples stand in the manifest.
    learned = trained_on_any(
        [*([start] if start else []), *members], trained_questions(examples.train) if files else ()
    )
    variant = write_variant(
        workspace.variants / recipe.name,
        manifest,
        files,
        replace=True,
        kept=kept,
        trained_on=learned,
    )
    with open_store(workspace.store) as store:
        store.add_variant(variant.manifest.model_dump(mode="json"), variant.folder)
    note_finished(key, variant, outcome, workspace)
    return Made(variant, outcome)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Keep a second process from training the same name into the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(
            translated("another process is training '{name}' here", name=name),
            hint=translated("wait for it, or give the recipe another name"),
        ) from None
    try:
        yield
    finally:
        if [path.name for path in folder.iterdir()] == ["lock"]:
            # The run never began: a mistyped recipe leaves no folders behind.
            with suppress(OSError):
                (folder / "lock").unlink()
                folder.rmdir()
                folder.parent.rmdir()
        lock.release()


def _use_threads(number: int) -> None:
    cores = os.cpu_count() or 1
    if number > cores:
        # Threads that wait for a core spin: more of them than cores can stop a machine.
        raise SettingsError(
            translated(
                "train.threads must be at most the {cores} cores here, got {number}",
                cores=cores,
                number=number,
            )
        )
    if number:
        torch.set_num_threads(number)


def _follow(
    task: Task,
    recipe: Recipe,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
    train: Train,
) -> Outcome:
    """Train with all sinks attached."""
    if should_stop():
        raise InterruptedRun(
            translated("stopped before the first step"), hint=translated("the same command goes on")
        )
    with (
        open_store(workspace.store) as store,
        record_run(store, recipe.to_plain(), task.folder) as record,
    ):
        sinks = [sink, jsonl_sink(task.folder / EVENTS_FILE), record]
        if recipe.log == "tensorboard":
            sinks.append(tensorboard_sink(task.folder / "tensorboard"))
        return train(task, fan_out(sinks), should_stop)


@torch.no_grad()
def _ensure_effect(base: Base, adapter: Adapter, example: TrainingExample) -> None:
    """Refuse an adapter that answers exactly like the base: it would be a silent no-op."""
    trained = _answers(base, example)
    with adapter.disabled():
        plain = _answers(base, example)
    # One number begins as 0 everywhere: its head learns before the hidden states do.
    head = base.score_head
    scores = head is not None and head.num_scores == 1 and bool(head.weight.any())
    if all(map(torch.equal, trained, plain)) and not scores:
        raise _no_effect("leaves the base's answers unchanged")


def _general_losses(recipe: Recipe, base: Base, adapter: Adapter, sink: Sink) -> dict[str, float]:
    """Measure what general text costs before and after, and warn of a large rise."""
    if base.score_head is not None:
        return {}
    task, size = translated("measuring general loss"), recipe.train.tokens_per_row
    sink(Progress(task, 0, 2))
    with adapter.disabled():
        before = measure_general_loss(base, renderer_of(base, recipe.render), size)
    sink(Progress(task, 1, 2))
    renderer = renderer_of(base, recipe.render, recipe.adapter.added_tokens)
    after = measure_general_loss(base, renderer, size)
    sink(Progress(task, 2, 2))
    say_forgotten(recipe.name, before, after, sink)
    measured = {"general_loss": after, "general_loss_base": before}
    return {name: loss for name, loss in measured.items() if loss is not None}


def _answers(base: Base, example: TrainingExample) -> tuple[Tensor, Tensor]:
    """Hidden states of an example, and some of its logits: what learned may be the head alone."""
    ids = torch.from_numpy(first_ids(example)).long().to(base.device)
    hidden = base.hidden(ids, Layout.of_lengths([len(ids)]))
    return hidden, base.head.logits(hidden[-_EFFECT_TOKENS:])


def _no_effect(what: str) -> AdapterError:
    return AdapterError(
        translated("the trained adapter {what}", what=what),
        hint=translated("raise train.learning_rate or train.epochs"),
    )


def _audience(recipe: Recipe, parents: Sequence[Variant]) -> AudienceSettings:
    return shared_audience([recipe.audience, *(parent.manifest.audience for parent in parents)])


def _manifest(
    recipe: Recipe,
    folder: Path,
    examples: Prepared,
    base: Base,
    prompt: Prompt,
    metrics: dict[str, float],
    parents: Sequence[Variant],
) -> VariantManifest:
    identity = base.identity
    return VariantManifest(
        name=recipe.name,
        audience=_audience(recipe, parents),
        base=BaseRecord(
            id=identity.id,
            architecture=identity.architecture,
            num_parameters=identity.num_parameters,
            weight_hash=identity.weight_hash,
            tokenizer_hash=identity.tokenizer_hash,
            template_hash=identity.template_hash,
            templates=templates_of(base.tokenizer),
            commit=identity.commit,
            quantise=identity.quantise,
            dtype=recipe.base.dtype,
            device=recipe.base.device,
        ),
        prompt=prompt.model_dump(mode="json"),
        render=recipe.render.seen_by_the_model(),
        new_tokens=recipe.adapter.added_tokens,
        generation=recipe.generation.model_dump(mode="json"),
        method=recipe.adapter.kind,
        objective=recipe.objective.kind if recipe.adapter.kind != "none" else "none",
        recipe=recipe.to_plain(),
        recipe_folder=str(folder.resolve()),
        data=DataRecord(
            place=recipe.data.train,
            fingerprint=examples.loaded.fingerprint,
            num_train=len(examples.train),
            num_holdout=len(examples.holdout),
            num_test=len(examples.test),
            **asdict(answer_form(examples.loaded.schema, examples.train)),
        ),
        seed=recipe.train.seed,
        metrics=metrics,
        parents=[parent.manifest.content_hash for parent in parents],
        kamerton_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
