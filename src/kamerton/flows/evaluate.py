"""`kamerton evaluate`: compare variants with prompting on held-out examples.

Zero-shot and few-shot prompts on the same base stand in every comparison; demonstrations come
from the examples the first variant learned from, never from those it is measured on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kamerton.core.errors import EvaluationError, SettingsError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_json
from kamerton.core.settings import apply_overrides
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.examples import ChatExample, ClassificationExample, Example
from kamerton.data.rendering import Renderer, make_renderer
from kamerton.data.settings import DataSettings
from kamerton.evaluation.comparison import Comparison, compare
from kamerton.evaluation.settings import Check, EvaluationSettings
from kamerton.evaluation.table import markdown_table
from kamerton.evaluation.task import Answers, Item, make_items, run_items
from kamerton.flows.prepare import make_prompt, read_examples, render_all
from kamerton.flows.variants import base_of, make_ready, recipe_of
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.prompting.prompt import Prompt
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, add_metrics
from kamerton.training.rows import make_rows, num_labelled

__all__ = ["Evaluated", "evaluate_variants", "evaluation_settings"]

_TOKENS_PER_ROW = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """A comparison with what it was made of.

    Attributes:
        comparison: The numbers.
        items: The questions.
        answers: What each variant answered.
        checks: What generated answers had to pass.
        facts: What was compared, as name and value.
    """

    comparison: Comparison
    items: list[Item]
    answers: list[Answers]
    checks: tuple[Check, ...]
    facts: list[tuple[str, str]]


def evaluate_variants(
    variants: Sequence[Variant],
    workspace: Workspace,
    sink: Sink,
    *,
    data: str | None = None,
    settings: EvaluationSettings | None = None,
) -> Evaluated:
    """Compare variants with each other and with prompting alone.

    Args:
        variants: At least one; all on the same base and answering the same kind of examples.
        workspace: Where the result is recorded.
        sink: Receives progress and notices.
        data: File to measure on; the first variant's own holdout when None.
        settings: How to measure; the first variant's recipe decides when None.

    Returns:
        The comparison.

    Raises:
        EvaluationError: If the variants cannot be compared or there is nothing to measure on.
    """
    first = variants[0]
    recipe = recipe_of(first)
    settings = settings or recipe.evaluate
    others = [
        v.name for v in variants if v.manifest.base.weight_hash != first.manifest.base.weight_hash
    ]
    if others:
        raise EvaluationError(
            f"variants of one comparison must have one base, {others[0]} has another than "
            f"{first.name}",
            hint="compare those of each base by themselves",
        )
    prepared = read_examples(recipe, Path(first.manifest.recipe_folder), sink)
    if prepared.loaded.fingerprint != first.manifest.data.fingerprint:
        sink(Notice(f"{recipe.data.train} has changed since {first.name} was trained", "warning"))
    held = _measured_on(data, recipe.data, prepared.holdout)
    labels = {e.label for e in prepared.train if isinstance(e, ClassificationExample)}
    items = make_items(held, settings.limit, sorted(labels) or None)
    base = base_of(first)
    renderer = make_renderer(base.tokenizer, recipe.render, vocab_size=base.identity.vocab_size)
    answers, baselines = [], []
    for shots in dict.fromkeys((0, settings.shots)):
        prompt = make_prompt(recipe, prepared.train, shots)
        name = f"{shots}-shot" if shots else "zero-shot"
        baselines.append(name)
        answers.append(_answer(name, base, renderer, prompt, items, held, settings, sink))
    for variant in variants:
        ready = make_ready(variant, base)
        answers.append(
            _answer(variant.name, base, ready.renderer, ready.prompt, items, held, settings, sink)
        )
        if ready.adapter is not None:
            ready.adapter.detach()
    comparison = compare(items, answers, settings, against=baselines)
    _record(variants, comparison, items, workspace)
    facts = [
        ("base", f"{base.identity.id} ({base.identity.num_parameters:,} parameters)"),
        ("measured on", f"{data or recipe.data.train}, {len(items)} held-out examples"),
        ("learned from", f"{len(prepared.train)} examples"),
        ("demonstrations", f"{settings.shots}, from the training examples"),
        ("variants", ", ".join(v.manifest.content_hash[:12] for v in variants)),
    ]
    return Evaluated(comparison, items, answers, settings.checks, facts)


def evaluation_settings(variant: Variant, overrides: Sequence[str]) -> EvaluationSettings:
    """Read how a variant is to be measured.

    Args:
        variant: Its recipe says how.
        overrides: `evaluate.key=value`.

    Returns:
        The settings.

    Raises:
        SettingsError: If an override is wrong.
    """
    plain = recipe_of(variant).evaluate.model_dump(mode="json")
    values = apply_overrides({"evaluate": plain}, overrides)
    unknown = sorted(values.keys() - {"evaluate"})
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: only evaluate.* can be set here")
    return EvaluationSettings.parse(values["evaluate"], source="--set evaluate")


def _measured_on(
    data: str | None, recipe: DataSettings, holdout: Sequence[Example]
) -> list[ChatExample | ClassificationExample]:
    examples = holdout
    if data is not None:
        loaded = load_examples(recipe.model_copy(update={"split": ""}), source=data)
        ensure_usable(loaded, recipe.max_unusable)
        examples = loaded.examples
    usable = [e for e in examples if isinstance(e, ChatExample | ClassificationExample)]
    if len(usable) < len(examples):
        raise EvaluationError("only chats and classified texts can be measured in this version")
    if not usable:
        raise EvaluationError(
            "there is nothing to measure on: the variant kept no examples aside",
            hint="set data.holdout in its recipe, or give --data FILE",
        )
    return usable


def _answer(
    name: str,
    base: Base,
    renderer: Renderer,
    prompt: Prompt,
    items: Sequence[Item],
    held: Sequence[Example],
    settings: EvaluationSettings,
    sink: Sink,
) -> Answers:
    def report(done: int, total: int) -> None:
        sink(Progress(f"asking {name}", done, total, "questions"))

    report(0, len(items))
    engine = EmbeddedEngine(base, renderer, prompt)
    answers = run_items(engine, name, items, settings, report)
    rows = render_all(renderer, prompt, held, sink, f"examples for {name}'s loss")
    count = num_labelled(rows)
    total = 0.0
    with torch.no_grad():
        for row in make_rows(rows, _TOKENS_PER_ROW, base.device):
            hidden = base.hidden(row.ids, row.layout)
            total -= float(token_logprobs(hidden[row.at], row.targets, base.head).sum())
    return replace(answers, holdout_loss=total / count, holdout_tokens=count)


def _record(
    variants: Sequence[Variant],
    comparison: Comparison,
    items: Sequence[Item],
    workspace: Workspace,
) -> None:
    """Keep the comparison in the store and in each variant's card."""
    table = markdown_table(comparison)
    for variant in variants:
        metrics = {m.metric: m.value for m in comparison.measured if m.variant == variant.name}
        add_metrics(variant, table, metrics)
    with open_store(workspace.store) as store:
        fingerprint = hash_json([item.id for item in items])
        store.add_evaluation(fingerprint, comparison.variants, comparison.to_json())
