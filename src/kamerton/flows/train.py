"""`kamerton train`: make one variant from a recipe."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kamerton import __version__
from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import NoAdapterSettings, attach, load
from kamerton.adapters.full import FullSettings
from kamerton.adapters.headed import Headed, with_head
from kamerton.core.errors import AdapterError, InterruptedRun, SettingsError, TrainingError
from kamerton.core.events import Notice, Sink, fan_out
from kamerton.data.dataset import Prepared
from kamerton.data.examples import ClassificationExample, Example
from kamerton.data.rendered import RenderedPrompt, Trainable
from kamerton.flows.online import examine_online, make_rollouts
from kamerton.flows.prepare import make_prompt, read_examples, render_all, renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.flows.references import cached_references
from kamerton.flows.reward_functions import function_hashes
from kamerton.flows.rewards import read_judges
from kamerton.flows.start import ensure_same_base, read_members, read_start, taken_over
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine, context_of
from kamerton.models.base import Base
from kamerton.models.layout import Layout
from kamerton.models.load import load_base
from kamerton.objectives.catalogue import make_objective
from kamerton.objectives.objective import Online
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.reward import RewardSettings
from kamerton.prompting.prompt import Prompt
from kamerton.store.database import open_store
from kamerton.store.manifest import BaseRecord, DataRecord, VariantManifest
from kamerton.store.sink import record_run
from kamerton.store.variants import Variant, write_variant
from kamerton.training.loop import CHECKPOINT_FILE, Outcome, Task, train
from kamerton.training.rollouts import Distance, at_start
from kamerton.training.sinks import jsonl_sink, tensorboard_sink

__all__ = ["EVENTS_FILE", "Made", "make_variant"]

EVENTS_FILE = "events.jsonl"
_FEW_HELD = 20
_LESS_PROBABLE = -1.0
_MOSTLY = 0.9


@dataclass(frozen=True, eq=False, slots=True)
class _Parts:
    """Variants that a new one is made with: where it starts, what it joins, who judges it."""

    start: Variant | None
    members: Sequence[Variant]
    judges: Sequence[Variant]
    folder: Path


@dataclass(frozen=True, eq=False)
class Made:
    """A finished variant.

    Attributes:
        variant: The folder and its manifest.
        outcome: How training ended; None for a prompt-only variant.
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
) -> Made:
    """Make a variant, going on from a checkpoint of the same run if there is one.

    Args:
        recipe: What to make.
        folder: What the recipe's paths are relative to.
        workspace: Where runs, variants and the store are.
        sink: Receives events.
        should_stop: Asked after every step.
        fresh: Forget an earlier run of this name.

    Returns:
        The variant.

    Raises:
        KamertonError: As its parts raise: data, base, adapter, training, store.
    """
    with _alone(workspace.runs / recipe.name, recipe.name):
        return _make_alone(recipe, folder, workspace, sink, should_stop, fresh)


def _make_alone(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
    fresh: bool,
) -> Made:
    _use_threads(recipe.train.threads)
    start = read_start(recipe, workspace)
    recipe = taken_over(recipe, start)
    members = read_members(recipe, workspace) if start is None else []
    judges = read_judges(recipe, workspace)
    examples = read_examples(recipe, folder, sink)
    _say_counts(examples, sink)
    base = load_base(
        recipe.base.id,
        dtype=recipe.base.dtype,
        device=recipe.base.device,
        quantise=recipe.base.quantise,
    )
    prompt = make_prompt(recipe, examples.train)
    outcome, files, metrics = None, dict[str, bytes](), dict[str, float]()
    if not isinstance(recipe.adapter, NoAdapterSettings):
        parts = _Parts(start, members, judges, folder)
        task = _make_task(recipe, examples, base, prompt, parts, workspace, sink)
        if fresh:
            (task.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        outcome = _follow(task, recipe, workspace, sink, should_stop)
        _ensure_effect(base, task.adapter, task.train[0])
        files, metrics = dict(task.adapter.files()), _metrics(task, outcome)
        _explain(metrics, sink)
        _explain_reward(metrics, sink)
    parents = [*([start] if start else []), *members, *judges]
    manifest = _manifest(recipe, folder, examples, base, prompt, metrics, parents)

    def kept(name: str) -> None:
        sink(Notice(f"what '{recipe.name}' was before is kept as '{name}'"))

    variant = write_variant(
        workspace.variants / recipe.name, manifest, files, replace=True, kept=kept
    )
    with open_store(workspace.store) as store:
        store.add_variant(variant.manifest.model_dump(mode="json"), variant.folder)
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
            f"another process is training '{name}' here",
            hint="wait for it, or give the recipe another name",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _say_counts(examples: Prepared, sink: Sink) -> None:
    """Say how many examples are learned from and measured on, and warn when those are few."""
    held = len(examples.holdout)
    counts = f"{len(examples.train)} examples to learn from, {held} held out"
    few = f"; fewer than {_FEW_HELD} held out say little: raise data.holdout, or give it a file"
    sink(Notice(counts + few, "warning") if held < _FEW_HELD else Notice(counts))
    labels = {e.label for e in examples.train if isinstance(e, ClassificationExample)}
    if len(labels) == 1:
        only = f"all examples have one label, '{labels.pop()}': there is nothing to tell apart"
        sink(Notice(only, "warning"))


def _use_threads(number: int) -> None:
    cores = os.cpu_count() or 1
    if number > cores:
        # Threads that wait for a core spin: more of them than cores can stop a machine.
        raise SettingsError(f"train.threads must be at most the {cores} cores here, got {number}")
    if number:
        torch.set_num_threads(number)


def _make_task(
    recipe: Recipe,
    examples: Prepared,
    base: Base,
    prompt: Prompt,
    parts: _Parts,
    workspace: Workspace,
    sink: Sink,
) -> Task:
    """Render the examples and attach an adapter: a fresh one, or that of the starting variant."""
    start = parts.start
    objective = make_objective(recipe.objective)
    renderer = renderer_of(base, recipe.render, recipe.adapter)
    for notice in renderer.facts.notices:
        sink(Notice(notice))

    def render(some: Sequence[Example], what: str) -> list[Trainable]:
        return render_all(
            renderer, prompt, some, sink, what, recipe.data.max_unusable,
            takes=objective.takes, kind=recipe.objective.kind,
        )  # fmt: skip

    train_rows = render(examples.train, "training examples")
    held_rows = render(examples.holdout, "held-out examples")
    if start is None:
        opening = _first_ids(train_rows[0]).tolist()
        for member in parts.members:
            ensure_same_base(member, base)
        files = [member.files() for member in parts.members]
        adapter = attach(base, recipe.adapter, recipe.train.seed, opening, files)
    else:
        ensure_same_base(start, base)
        adapter = load(base, start.manifest.method, start.files())
    if isinstance(recipe.objective, RewardSettings):
        adapter = _judging(base, adapter, recipe.objective.num_scores, recipe.train.seed)
    _check_room(base, [*train_rows, *held_rows])
    folder = workspace.runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    references, rollouts, distance = None, None, None
    if isinstance(objective, Online):
        examine_online(recipe, objective.settings, train_rows, parts.judges, base, sink)
        rollouts, adapter = make_rollouts(
            recipe, objective, base, adapter, renderer, parts.judges, parts.folder
        )
    if objective.needs_reference:
        content = start.manifest.content_hash if start else ""
        ask = partial(cached_references, base, adapter)
        kept = workspace.references
        references = (
            ask(train_rows, content, kept, sink), ask(held_rows, content, kept, sink)
        )  # fmt: skip
        if not (start and isinstance(recipe.adapter, FullSettings)):
            # Of all weights there would be a second copy.
            reference = at_start(adapter) if start else adapter.disabled
            engine = EmbeddedEngine(base, renderer)
            distance = Distance(base, engine, reference, recipe.evaluate.max_tokens)
    return Task(
        name=recipe.name,
        base=base,
        adapter=adapter,
        objective=objective,
        train=train_rows,
        holdout=held_rows,
        settings=recipe.train,
        folder=folder,
        identity=_identity(recipe, examples, base, parts),
        references=references,
        starts_as_reference=start is not None or adapter.capabilities.identity_at_start,
        rollouts=rollouts,
        distance=distance,
    )


def _first_ids(example: Trainable) -> NDArray[np.int32]:
    """What an example begins with: a text, or a prompt that is not answered yet."""
    return example.ids if isinstance(example, RenderedPrompt) else example.answers[0].ids


def _judging(base: Base, adapter: Adapter, num_scores: int, seed: int) -> Headed:
    """Put a score head beside an adapter that has none."""
    if not isinstance(adapter, Headed):
        return with_head(base, adapter, num_scores, seed)
    if adapter.head.num_scores != num_scores:
        raise SettingsError(
            f"objective.model: the starting variant gives {adapter.head.num_scores} numbers an "
            f"answer, the recipe wants {num_scores}"
        )
    return adapter


def _check_room(base: Base, rows: Sequence[Trainable]) -> None:
    """Refuse virtual tokens that leave too little of the base's context to an example."""
    context = context_of(base.model.config)
    longest = max(
        max((len(answer.ids) for answer in row.answers), default=row.num_prompt) for row in rows
    )
    if context is not None and base.num_virtual and base.num_virtual + longest > context:
        raise AdapterError(
            f"adapter.num_tokens: {base.num_virtual} virtual tokens and the longest example of "
            f"{longest} tokens do not fit into the base's context of {context}",
            hint=f"set render.max_tokens = {context - base.num_virtual}, or fewer virtual tokens",
        )


def _follow(
    task: Task,
    recipe: Recipe,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
) -> Outcome:
    """Train with all sinks attached."""
    if should_stop():
        raise InterruptedRun("stopped before the first step", hint="the same command goes on")
    with (
        open_store(workspace.store) as store,
        record_run(store, recipe.to_plain(), task.folder) as record,
    ):
        sinks = [sink, jsonl_sink(task.folder / EVENTS_FILE), record]
        if recipe.log == "tensorboard":
            sinks.append(tensorboard_sink(task.folder / "tensorboard"))
        return train(task, fan_out(sinks), should_stop)


def _metrics(task: Task, outcome: Outcome) -> dict[str, float]:
    """Sum training up; the base's own loss on the holdout says what was gained."""
    metrics = {"steps": float(outcome.kept_step), "train_seconds": outcome.seconds}
    if outcome.holdout_loss is not None:
        metrics["holdout_loss"] = outcome.holdout_loss
        if task.rollouts is not None:
            with task.rollouts.reference():
                _, before = task.measure()
            metrics["holdout_reward_before"] = before["reward"]
        elif task.objective.reads in ("logprobs", "everything"):
            with task.adapter.disabled():
                metrics["holdout_loss_base"], _ = replace(task, distance=None).measure()
        _, parts = task.measure()
        metrics |= {f"holdout_{name}": value for name, value in parts.items()}
    return metrics


def _explain(metrics: Mapping[str, float], sink: Sink) -> None:
    """Say what a number means that would alarm, or escape, whoever sees it first."""
    change = metrics.get("holdout_chosen_change", 0.0)
    if change < _LESS_PROBABLE:
        sink(
            Notice(
                f"the better answers became less probable too, by {-change:.1f} nats an answer: "
                "preferences only look at differences, and the worse answers fell by "
                f"{-metrics['holdout_rejected_change']:.1f}. To hold the better ones, set "
                "objective.nll = 0.1 or more, a larger objective.beta, or a smaller rate",
                "warning",
            )
        )


def _explain_reward(metrics: Mapping[str, float], sink: Sink) -> None:
    """Say how far rewards came, and at what distance."""
    if "holdout_reward" not in metrics:
        return
    sink(
        Notice(
            f"mean reward of held-out answers: {metrics['holdout_reward_before']:.3f} before, "
            f"{metrics['holdout_reward']:.3f} now, {metrics['holdout_kl']:.1f} nats an answer away "
            "from the reference. Rewards do not say whether answers got better: read some"
        )
    )
    if metrics["holdout_ended"] < _MOSTLY:
        sink(
            Notice(
                f"{100 * (1 - metrics['holdout_ended']):.0f} % of the held-out answers were cut at "
                "objective.max_tokens, or at the end of the base's context: raise it, or "
                "objective.missing_end_penalty",
                "warning",
            )
        )


def _identity(recipe: Recipe, examples: Prepared, base: Base, parts: _Parts) -> str:
    """List everything that must be the same for a checkpoint to lead to the same weights."""
    made_of = recipe.model_dump(
        mode="json", exclude={"name", "purpose", "evaluate", "log", "data", "base"}
    )
    # When to save is no part of what is computed; how rows are packed is, by its rounding.
    del made_of["train"]["checkpoint_every_s"]
    held = examples.loaded_holdout
    made_of["data"] = {
        "examples": examples.loaded.fingerprint[:12],
        "holdout": held.fingerprint[:12] if held else recipe.data.holdout,
        "seed": recipe.data.seed,
    }
    identity = base.identity
    made_of["base"] = {
        "weights": identity.weight_hash,
        "tokenizer": identity.tokenizer_hash,
        "template": identity.template_hash,
        "quantise": identity.quantise,
        "dtype": str(base.dtype),
    }
    parents = [*([parts.start] if parts.start else []), *parts.members]
    made_of["start"] = ", ".join(parent.manifest.content_hash for parent in parents)
    if isinstance(recipe.objective, OnlineSettings):
        judges = {judge.name: judge.manifest.content_hash[:12] for judge in parts.judges}
        made_of["rewards"] = judges | function_hashes(recipe.objective, parts.folder)
    made_of["machine"] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(base.device),
    }
    return json.dumps(made_of, sort_keys=True)


@torch.no_grad()
def _ensure_effect(base: Base, adapter: Adapter, example: Trainable) -> None:
    """Refuse an adapter that answers exactly like the base: it would be a silent no-op."""
    ids = torch.from_numpy(_first_ids(example)).long().to(base.device)
    layout = Layout.of_lengths([len(ids)])
    trained = base.hidden(ids, layout)
    with adapter.disabled():
        plain = base.hidden(ids, layout)
    if torch.equal(trained, plain):
        raise AdapterError(
            "the trained adapter leaves the base's answers unchanged",
            hint="raise train.learning_rate or train.epochs",
        )


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
        base=BaseRecord(
            id=identity.id,
            architecture=identity.architecture,
            num_parameters=identity.num_parameters,
            weight_hash=identity.weight_hash,
            tokenizer_hash=identity.tokenizer_hash,
            template_hash=identity.template_hash,
            quantise=identity.quantise,
        ),
        prompt=prompt.model_dump(mode="json"),
        generation={"max_tokens": recipe.evaluate.max_tokens},
        method=recipe.adapter.kind,
        objective=recipe.objective.kind if recipe.adapter.kind != "none" else "none",
        recipe=recipe.to_plain(),
        recipe_folder=str(folder.resolve()),
        data=DataRecord(
            place=recipe.data.train,
            fingerprint=examples.loaded.fingerprint,
            num_train=len(examples.train),
            num_holdout=len(examples.holdout),
        ),
        seed=recipe.train.seed,
        metrics=metrics,
        parents=[parent.manifest.content_hash for parent in parents],
        kamerton_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
