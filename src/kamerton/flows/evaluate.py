"""`kamerton evaluate`: compare variants with prompting on held-out examples.

Zero-shot and few-shot prompts on the same base stand in every comparison; demonstrations come
from the examples the first variant learned from, never from those it is measured on. A variant
that went on from another is compared with that one too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kamerton.core.errors import (
    EvaluationError,
    SettingsError,
    StoreError,
)
from kamerton.core.events import Notice, Sink
from kamerton.core.files import hash_json
from kamerton.core.settings import apply_overrides
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.examples import ChatExample, ClassificationExample, Example, PreferenceExample
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.settings import DataSettings
from kamerton.evaluation.comparison import Comparison, compare
from kamerton.evaluation.jackknife import FEWEST_ROWS
from kamerton.evaluation.settings import Check, EvaluationSettings
from kamerton.evaluation.table import markdown_table
from kamerton.evaluation.task import Answers, Item, make_items, spread
from kamerton.flows.asking import ask_in_turn
from kamerton.flows.baselines import baseline_prompts, read_starts, same_base, shortened
from kamerton.flows.contestants import (
    Contestant,
    Measurable,
    render_questions,
    with_examples_that_fit,
)
from kamerton.flows.measured_on import MeasuredOn, place_of
from kamerton.flows.prepare import read_examples, renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.flows.unseen import unseen
from kamerton.flows.variants import base_of, prompt_of, recipe_of
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import context_of
from kamerton.models.base import Base
from kamerton.models.load import DType
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, add_metrics

__all__ = ["Evaluated", "evaluate_variants", "evaluation_settings"]

_NO_LIMIT = 1 << 20
_FEW_HELD = 20


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """A comparison with what it was made of.

    Attributes:
        comparison: The numbers.
        items: The questions.
        answers: What each variant answered.
        checks: What generated answers had to pass.
        facts: What was compared, as name and value.
        prompts: By name what each is asked first, exactly as its model reads it.
    """

    comparison: Comparison
    items: list[Item]
    answers: list[Answers]
    checks: tuple[Check, ...]
    facts: list[tuple[str, str]]
    prompts: list[tuple[str, str]]


def evaluate_variants(
    variants: Sequence[Variant],
    workspace: Workspace,
    sink: Sink,
    *,
    data: str | None = None,
    reading: DataSettings | None = None,
    settings: EvaluationSettings | None = None,
) -> Evaluated:
    """Compare variants with each other and with prompting alone.

    Args:
        variants: At least one; all on the same base and answering the same kind of examples. The
            variants that they went on from are added.
        workspace: Where those are, and where the result is recorded.
        sink: Receives progress and notices.
        data: File to measure on; the first variant's own test set, or else its holdout, when None.
        reading: How to read that file; as the first variant's recipe reads its own when None.
        settings: How to measure; the first variant's recipe decides when None.

    Returns:
        The comparison.

    Raises:
        EvaluationError: If the variants cannot be compared or there is nothing to measure on.
    """
    first = variants[0]
    recipe = recipe_of(first)
    settings = settings or recipe.evaluate
    _ensure_comparable(variants)
    starts, only_for = read_starts(variants, workspace, sink)
    stored = [*starts, *(variant for variant in variants if variant not in starts)]
    prepared = read_examples(recipe, Path(first.manifest.recipe_folder), sink)
    if prepared.loaded.fingerprint != first.manifest.data.fingerprint:
        sink(Notice(f"{recipe.data.train} has changed since {first.name} was trained", "warning"))
    place = place_of(prepared, recipe.data, stored, data)
    if place.advice:
        sink(Notice(place.advice))
    prompts = {
        f"{shots}-shot" if (shots := len(prompt.demonstrations)) else "zero-shot": prompt
        for prompt in baseline_prompts(recipe, prepared.train, settings.shots, sink)
    }
    own_prompts = {variant.name: prompt_of(variant) for variant in stored}
    held, seen = unseen(
        _measured_on(place, recipe.data, reading), stored, prompts | own_prompts, sink,
        include_trained=settings.include_trained,
    )  # fmt: skip
    held = spread(held, settings.limit)
    if settings.checks:
        held = [_asked_freely(example) for example in held]
    _say_few(held, sink)
    labels = _labels(prepared.train, held, sink)
    base = base_of(first, dtype=_dtype(stored))
    renderer = _renderer(base, recipe, recipe, adapted=False)
    contestants = [Contestant(name, renderer, shortened(one)) for name, one in prompts.items()]
    for variant in stored:
        renderer = _renderer(base, recipe_of(variant), recipe)
        contestants.append(
            Contestant(variant.name, renderer, (own_prompts[variant.name],), variant)
        )
    held, asked = render_questions(contestants, held, labels, sink)
    contestants, asked = with_examples_that_fit(contestants, asked, sink)
    names = [one.name for one in contestants if one.variant is None]
    shots = max(len(prompts[name].demonstrations) for name in names)
    items = make_items(held, labels=labels or None)
    answers = ask_in_turn(base, contestants, items, asked, settings, sink)
    comparison = compare(
        items,
        answers,
        settings,
        against=[*names, *(start.name for start in starts)],
        only_for=only_for,
        measured_on=place.name,
    )
    try:
        _record(variants, comparison, items, workspace)
    except (OSError, StoreError) as error:
        # An hour of answers is worth showing even where nothing can be written.
        sink(Notice(f"the comparison could not be recorded: {error}", "warning"))
    facts = [
        *_purposes(stored),
        ("base", f"{base.identity.id} ({base.identity.num_parameters:,} parameters)"),
        ("measured on", place.told(len(items))),
        *([("seen before", seen)] if seen else []),
        ("learned from", f"{len(prepared.train)} examples"),
        ("demonstrations", f"{shots}, from the training examples"),
        ("content hash", ", ".join(v.manifest.content_hash[:12] for v in stored)),
    ]
    return Evaluated(
        comparison,
        items,
        answers,
        settings.checks,
        facts,
        [
            (one.name, one.exact_prompt(items[0], own[0]))
            for one, own in zip(contestants, asked, strict=True)
        ],
    )


def evaluation_settings(
    variant: Variant, overrides: Sequence[str], data: str | None = None
) -> tuple[EvaluationSettings, DataSettings | None]:
    """Read how a variant is to be measured.

    Args:
        variant: Its recipe says how.
        overrides: `evaluate.key=value`, and of a file to measure on `data.key=value`.
        data: That file.

    Returns:
        The settings, and how to read the file; None where there is none.

    Raises:
        SettingsError: If an override is wrong.
    """
    recipe = recipe_of(variant)
    # `data.split` says which rows of the training file were learned from.
    of_file = {**recipe.data.model_dump(mode="json"), "split": ""}
    plain = {"evaluate": recipe.evaluate.model_dump(mode="json"), "data": of_file}
    values = apply_overrides(plain, overrides)
    unknown = sorted(values.keys() - plain.keys())
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: only evaluate.* and data.* can be set here")
    changed = [key for key in values["data"] if values["data"][key] != of_file.get(key)]
    if changed and data is None:
        raise SettingsError(
            f"--set data.{changed[0]}: data.* says how a file is read that is measured on",
            hint="give it with --data FILE; the variant's own examples are read as its recipe says",
        )
    if wrong := [key for key in ("train", "holdout", "test", "seed") if key in changed]:
        raise SettingsError(
            f"--set data.{wrong[0]}: the variant is trained already",
            hint="--data FILE names what it is measured on",
        )
    settings = EvaluationSettings.parse(values["evaluate"], source="--set evaluate")
    reading = DataSettings.parse(values["data"], source="--set data")
    return settings, reading if data is not None else None


def _purposes(stored: Sequence[Variant]) -> list[tuple[str, str]]:
    """Say what variants are for; once where that is the same for all."""
    found = {variant.name: recipe_of(variant).purpose for variant in stored}
    if len(set(found.values())) == 1:
        found = {"": next(iter(found.values()))}
    return [(f"purpose {name}".rstrip(), text) for name, text in found.items() if text]


def _ensure_comparable(variants: Sequence[Variant]) -> None:
    names = [variant.name for variant in variants]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(
            f"variants of a comparison must have different names, got {twice} twice"
        )
    first = variants[0]
    for variant in variants[1:]:
        if not same_base(variant, first):
            raise EvaluationError(
                f"variants of one comparison must have one base, held alike; {variant.name} has "
                f"another than {first.name}",
                hint="compare those of each base, and of each base.quantise, by themselves",
            )


def _dtype(variants: Sequence[Variant]) -> DType | None:
    """Choose what all are measured in: fp32 as soon as one was made in it, else as the first."""
    exact = any(recipe_of(variant).base.dtype == "float32" for variant in variants)
    return "float32" if exact else None


def _renderer(base: Base, own: Recipe, first: Recipe, *, adapted: bool = True) -> Renderer:
    """Make a contestant's renderer: all have their losses over the same answers."""
    limit = context_of(base.model.config) or _NO_LIMIT
    same = {"max_tokens": limit, "overlong": "drop", "train_on": first.render.train_on}
    render = own.render.model_copy(update=same)
    return renderer_of(base, render, own.adapter if adapted else None)


def _measured_on(
    place: MeasuredOn, recipe: DataSettings, reading: DataSettings | None
) -> list[Measurable]:
    examples = place.examples
    if place.is_file:
        reading = reading or recipe.model_copy(update={"split": ""})
        loaded = load_examples(reading, source=place.source)
        ensure_usable(loaded, recipe.max_unusable)
        examples = loaded.examples
    if not examples:
        raise EvaluationError(
            "there is nothing to measure on: the variant kept no examples aside",
            hint="set data.holdout in its recipe, or give --data FILE",
        )
    usable = [e for e in examples if isinstance(e, Measurable)]
    if len(usable) < len(examples):
        raise EvaluationError(
            "only chats, classified texts and pairs have questions to ask, found other examples",
            hint="the held-out loss of plain text stands in the variant's CARD.md",
        )
    return usable


def _say_few(held: Sequence[Measurable], sink: Sink) -> None:
    """Warn where too little is measured on: what counts is how many groups there are."""
    named = {example.group for example in held if example.group is not None}
    num = len(named) + sum(example.group is None for example in held)
    if num >= _FEW_HELD:
        return
    found, so = f"only {len(held)} held-out {_plural('example', len(held))}", "wide"
    if num < len(held):
        found = f"only {num} {_plural('group', num)} among {len(held)} held-out examples"
        so = "wide" if num >= FEWEST_ROWS else "missing, as are the differences"
    sink(Notice(f"{found}: the intervals will be {so}", "warning"))


def _plural(noun: str, num: int) -> str:
    return noun if num == 1 else f"{noun}s"


def _asked_freely(example: Measurable) -> Measurable:
    """Where answers are checked, a pair's prompt is a question like any other."""
    if not isinstance(example, PreferenceExample):
        return example
    messages = (*example.prompt, *example.chosen)
    return ChatExample(example.place, messages, group=example.group, extra=example.extra)


def _labels(train: Sequence[Example], held: Sequence[Measurable], sink: Sink) -> list[str]:
    """List the labels to choose from: those learned, and those that are right somewhere."""
    known = {e.label for e in train if isinstance(e, ClassificationExample)}
    asked = {e.label for e in held if isinstance(e, ClassificationExample)}
    if new := sorted(asked - known):
        sink(
            Notice(
                f"{len(new)} labels of the held-out examples are not among the training examples, "
                f"such as '{new[0]}': no variant could learn them",
                "warning",
            )
        )
    return sorted(known | asked) if asked else []


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
        cost = comparison.cost(variant.name)
        alone = comparison.cost(comparison.variants[0])
        if cost.general_loss is not None and alone.general_loss is not None:
            metrics |= {"general_loss": cost.general_loss, "general_loss_base": alone.general_loss}
        add_metrics(variant, table, metrics)
    with open_store(workspace.store) as store:
        fingerprint = hash_json([item.id for item in items])
        store.add_evaluation(fingerprint, comparison.variants, comparison.to_json())
