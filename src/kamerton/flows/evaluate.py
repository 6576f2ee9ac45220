"""`kamerton evaluate`: compare variants with prompting on held-out examples.

Zero-shot and few-shot prompts on the same base stand in every comparison; demonstrations come
from the examples the first variant learned from, never from those it is measured on. A variant
that went on from another is compared with that one too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from kamerton.core.errors import (
    EvaluationError,
    SettingsError,
    StoreError,
)
from kamerton.core.events import Notice, Sink
from kamerton.core.files import hash_json
from kamerton.core.language import translated, translated_count, translated_number
from kamerton.core.settings import apply_overrides
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
)
from kamerton.data.rendering.assembly import TrainOn
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.settings import DataSettings
from kamerton.evaluation.commonest import COMMONEST, answer_commonest, shown_name
from kamerton.evaluation.comparison import Comparison, compare
from kamerton.evaluation.items import Answers, Item, make_items, spread
from kamerton.evaluation.jackknife import FEWEST_ROWS
from kamerton.evaluation.settings import Check, EvaluationSettings
from kamerton.evaluation.style import FittedStyle
from kamerton.evaluation.table import markdown_table
from kamerton.flows.asking import ask_in_turn
from kamerton.flows.baselines import (
    baseline_prompts,
    built_instruction,
    read_starts,
    same_base,
    shortened,
)
from kamerton.flows.candidates import (
    Candidate,
    Measurable,
    render_questions,
    with_examples_that_fit,
)
from kamerton.flows.instruction_choice import choose_instruction
from kamerton.flows.judge_engine import JudgeOptions, open_judge
from kamerton.flows.judging import with_preferences
from kamerton.flows.measured_on import MeasuredOn, choose_measured_on
from kamerton.flows.prepare import read_examples
from kamerton.flows.reading import BASE_ALONE, are_plain, read_in_turn
from kamerton.flows.recipe import recipe_of
from kamerton.flows.reward_accuracy import with_reward_accuracy
from kamerton.flows.style import fit_styles
from kamerton.flows.tool_calls import call_form_of, ensure_tools_shown, with_readable_calls
from kamerton.flows.unseen import unseen
from kamerton.flows.votes import votes_of
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.models.context import longest_row
from kamerton.models.dtype import DType
from kamerton.models.load import ensure_here, pick_device
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, add_metrics, read_variant
from kamerton.training.forgetting import say_forgotten
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import generation_of, prompt_of, render_of
from kamerton.variants.rendering import renderer_of

__all__ = ["Evaluated", "evaluate_variants", "evaluation_settings"]

_FEW_HELD = 20


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """A comparison with what it was made of.

    Attributes:
        comparison: The numbers.
        items: The questions.
        answers: The answers of each variant.
        checks: The checks of generated answers, those of style fitted.
        facts: The facts of the comparison, as name and value.
        prompts: The first question of each by name, exactly as its model reads it.
        num_by_label: Training examples of the first variant by label; empty where there are none.
    """

    comparison: Comparison
    items: list[Item]
    answers: list[Answers]
    checks: tuple[Check | FittedStyle, ...]
    facts: list[tuple[str, str]]
    prompts: list[tuple[str, str]]
    num_by_label: Mapping[str, int] = field(default_factory=dict)


def evaluate_variants(
    variants: Sequence[Variant],
    workspace: Workspace,
    sink: Sink,
    *,
    data: str | None = None,
    reading: DataSettings | None = None,
    settings: EvaluationSettings | None = None,
    opening: Opening | None = None,
    votes: Path | None = None,
    judge: JudgeOptions | None = None,
) -> Evaluated:
    """Compare variants with each other and with prompting alone.

    Args:
        variants: At least one variant; all have one base and answer one kind of examples. The
            variants that they went on from are added.
        workspace: The workspace of the variants, which records the result.
        sink: Receives progress and notices.
        data: File to measure on; the first variant's own test set, or else its holdout, when None.
        reading: The settings for that file; None takes the first variant's recipe's.
        settings: The evaluation's settings; None takes the first variant's recipe's.
        opening: The way the base is opened; None takes it from the recipes.
        votes: File of blind votes on two of the variants; None leaves them out.
        judge: Who else compares answers; None asks nobody.

    Returns:
        The comparison.

    Raises:
        EvaluationError: If the variants cannot be compared or there is nothing to measure on.
    """
    variants = _told_apart(variants)
    first = variants[0]
    recipe = recipe_of(first)
    settings = settings or recipe.evaluate
    _ensure_comparable(variants)
    voted = votes_of(votes, variants, sink) if votes else []
    opening = opening or Opening(sink=sink)
    ask = open_judge(judge, workspace, sink, opening) if judge else None
    pick_device(opening.device or "auto")
    if opening.base:
        ensure_here(opening.base, opening.device or "auto")
    starts, only_for = read_starts(variants, workspace, sink)
    stored = [*starts, *(variant for variant in variants if variant not in starts)]
    prepared = read_examples(recipe, Path(first.manifest.recipe_folder), sink)
    if prepared.loaded.fingerprint != first.manifest.data.fingerprint:
        changed = translated(
            "{file} has changed since {variant} was trained",
            file=recipe.data.train,
            variant=first.name,
        )
        sink(Notice(changed, "warning"))
    checks = fit_styles(settings, prepared.train, Path(first.manifest.recipe_folder), sink)
    measured_on = choose_measured_on(prepared, recipe.data, stored, data)
    if measured_on.advice:
        sink(Notice(measured_on.advice))
    measurable = _measurable(measured_on, recipe.data, reading)
    is_plain = are_plain(measurable, settings, sink)
    built = settings.instruction == "built" and not is_plain
    texts = built_instruction(recipe, prepared.train, measurable, sink) if built else ()
    base = load_base_for(first, opening, dtype=opening.dtype or _dtype(stored))
    bare = _renderer(base, first, recipe.render.train_on, adapted=False)
    system = choose_instruction(texts, base, bare, prepared.train, settings, sink)
    shots_wanted = 0 if is_plain else settings.shots
    prompts = baseline_prompts(recipe, prepared.train, shots_wanted, system, bare, sink)
    if is_plain:
        prompts = {BASE_ALONE: next(iter(prompts.values()))}
    own_prompts = {variant.name: prompt_of(variant) for variant in stored}
    held, seen = unseen(
        measurable, stored, prompts | own_prompts, sink,
        include_trained=settings.include_trained,
    )  # fmt: skip
    asked_freely = not is_plain and (bool(settings.checks) or _say_only_liked(held, sink))
    if asked_freely:
        held = _questions(held)
    held = spread(held, settings.limit)
    _say_few(held, sink)
    labels = _labels(prepared.train, held, sink)
    ensure_tools_shown(bare, held, base.identity.id)
    generations = [generation_of(one) for one in stored]
    longest = max(one.max_new_tokens for one in generations)
    prompted = generation_of(first).model_copy(update={"max_new_tokens": longest})
    candidates = [
        Candidate(name, bare, shortened(one, or_without=system), own=prompted)
        for name, one in prompts.items()
    ]
    candidates += [
        Candidate(
            one.name,
            _renderer(base, one, recipe.render.train_on),
            (own_prompts[one.name],),
            one,
            own,
        )
        for one, own in zip(stored, generations, strict=True)
    ]
    held, asked = render_questions(candidates, held, labels, sink)
    candidates, asked = with_examples_that_fit(candidates, asked, sink)
    names = [one.name for one in candidates if one.variant is None]
    shots = max(len(prompts[name].demonstrations) for name in names)
    items = make_items(held, labels=labels or None, asked=asked_freely)
    form = call_form_of(bare, items)
    if form is not None:
        items = with_readable_calls(items, held, bare, form)
    read_calls = form.read if form else None
    if is_plain:
        answers = read_in_turn(base, candidates, items, asked, sink)
    else:
        answers = ask_in_turn(base, candidates, items, asked, settings, sink, read_calls=read_calls)
        answers = with_reward_accuracy(answers, stored)
    for answer in answers[len(answers) - len(stored) :]:
        say_forgotten(answer.variant, answers[0].general_loss, answer.general_loss, sink)
    learned = Counter(e.label for e in prepared.train if isinstance(e, ClassificationExample))
    if (commonest := answer_commonest(items, learned.elements())) is not None:
        answers = [commonest, *answers]
        names = [COMMONEST, *names]
        # Who learned must beat it; whether a prompt does is not worth a stricter correction.
        only_for[COMMONEST] = {one.name for one in stored}
    comparison = compare(
        items,
        answers,
        settings,
        against=[*names, *(start.name for start in starts)],
        only_for=only_for,
        measured_on=measured_on.name,
        checks=checks,
    )
    comparison = with_preferences(
        comparison, items, answers, [v.name for v in variants], voted, judge, ask, settings, sink
    )
    try:
        _record(variants, comparison, items, workspace)
    except (OSError, StoreError) as error:
        # An hour of answers is worth showing even where nothing can be written.
        unwritten = translated("the comparison could not be recorded: {error}", error=error)
        sink(Notice(unwritten, "warning"))
    facts = [
        *_purposes(stored),
        (translated("base"), _base_in_words(base)),
        (translated("measured on"), measured_on.told(len(items))),
        *([(translated("seen before"), seen)] if seen else []),
        (translated("learned from"), _learned_from(prepared.train)),
        *([] if is_plain else [(translated("demonstrations"), _demonstrations(shots))]),
        *([(translated("instruction of the prompts"), system)] if system else []),
        *([(shown_name(COMMONEST), commonest.texts[0])] if commonest else []),
        (
            translated("content hash"),
            ", ".join(v.manifest.content_hash[:12] for v in stored),
        ),
    ]
    exact = [
        (one.name, one.exact_prompt(items[0], own[0]))
        for one, own in zip(candidates, asked, strict=True)
        if not is_plain
    ]
    return Evaluated(comparison, items, answers, checks, facts, exact, learned)


def evaluation_settings(
    variant: Variant, overrides: Sequence[str], data: str | None = None
) -> tuple[EvaluationSettings, DataSettings | None]:
    """Read how a variant is to be measured.

    Args:
        variant: Its recipe says how.
        overrides: `evaluate.key=value`, and of a file to measure on `data.key=value`.
        data: The file to measure on.

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
        # A key without its section, or a mistyped section.
        owners = [f"{section}.{unknown[0]}" for section in plain if unknown[0] in plain[section]]
        near = [*owners, *get_close_matches(unknown[0], plain, 1)]
        raise SettingsError(
            translated("--set {key}: only evaluate.* and data.* can be set here", key=unknown[0]),
            hint=translated("did you mean {name}?", name=near[0]) if near else None,
        )
    changed = [key for key in values["data"] if values["data"][key] != of_file.get(key)]
    if changed and data is None:
        raise SettingsError(
            translated(
                "--set data.{key}: data.* says how a file is read that is measured on",
                key=changed[0],
            ),
            hint=translated(
                "give it with --data FILE; the variant's own examples are read as its recipe says"
            ),
        )
    if wrong := [key for key in ("train", "holdout", "test", "seed") if key in changed]:
        raise SettingsError(
            translated("--set data.{key}: the variant is trained already", key=wrong[0]),
            hint=translated("--data FILE names what it is measured on"),
        )
    settings = EvaluationSettings.parse(values["evaluate"], source="--set evaluate")
    reading = DataSettings.parse(values["data"], source="--set data")
    return settings, reading if data is not None else None


def _purposes(stored: Sequence[Variant]) -> list[tuple[str, str]]:
    """Say what variants are for; once where that is the same for all."""
    found = {variant.name: recipe_of(variant).purpose for variant in stored}
    if len(set(found.values())) == 1:
        found = {"": next(iter(found.values()))}
    purpose = translated("purpose")
    return [(f"{purpose} {name}".rstrip(), text) for name, text in found.items() if text]


def _base_in_words(base: Base) -> str:
    num = translated_number(f"{base.identity.num_parameters:,}")
    return translated("{base} ({num} parameters)", base=base.identity.id, num=num)


def _learned_from(train: Sequence[Example]) -> str:
    return translated_count(len(train), "example")


def _demonstrations(num: int) -> str:
    return translated("{num}, from the training examples", num=num)


def _told_apart(variants: Sequence[Variant]) -> list[Variant]:
    """Name variants of one name by their folders: what a variant was before is kept as NAME.1."""
    names = Counter(variant.name for variant in variants)
    return [
        replace(one, manifest=one.manifest.model_copy(update={"name": one.folder.name}))
        if names[one.name] > 1
        else one
        for one in variants
    ]


def _ensure_comparable(variants: Sequence[Variant]) -> None:
    names = [variant.name for variant in variants]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(
            translated(
                "variants of a comparison must have different names, got {name} twice", name=twice
            )
        )
    first = variants[0]
    for variant in variants[1:]:
        if not same_base(variant, first):
            raise EvaluationError(
                translated(
                    "variants of one comparison must have one base, held alike; {variant} has "
                    "another than {first}",
                    variant=variant.name,
                    first=first.name,
                ),
                hint=translated(
                    "compare those of each base, and of each base.quantise, by themselves"
                ),
            )


def _dtype(variants: Sequence[Variant]) -> DType | None:
    """Choose what all are measured in: fp32 as soon as one was made in it, else as the first."""
    exact = any(variant.manifest.base.dtype == "float32" for variant in variants)
    return "float32" if exact else None


def _renderer(base: Base, variant: Variant, train_on: TrainOn, *, adapted: bool = True) -> Renderer:
    """Make a candidate's renderer: all have their losses over the same answers."""
    limit = longest_row(base.model.config)
    same = {"max_tokens": limit, "overlong": "drop", "train_on": train_on}
    render = render_of(variant).model_copy(update=same)
    return renderer_of(base, render, variant.manifest.new_tokens if adapted else ())


def _measurable(
    measured_on: MeasuredOn, recipe: DataSettings, reading: DataSettings | None
) -> list[Measurable]:
    examples = measured_on.examples
    if measured_on.is_file:
        reading = reading or recipe.model_copy(update={"split": ""})
        loaded = load_examples(reading, source=measured_on.source)
        ensure_usable(loaded, recipe.max_unusable)
        examples = loaded.examples
    if not examples:
        raise EvaluationError(
            translated("there is nothing to measure on: the variant kept no examples aside"),
            hint=translated("set data.holdout in its recipe, or give --data FILE"),
        )
    return list(examples)


def _say_few(held: Sequence[Measurable], sink: Sink) -> None:
    """Warn where too little is measured on: what counts is how many groups there are."""
    named = {example.group for example in held if example.group is not None}
    num = len(named) + sum(example.group is None for example in held)
    if num >= _FEW_HELD:
        return
    found = translated("only {examples}", examples=translated_count(len(held), "held-out example"))
    if num < len(held):
        groups = translated_count(num, "group")
        found = translated(
            "only {groups} among {num} held-out examples", groups=groups, num=len(held)
        )
    if num < len(held) and num < FEWEST_ROWS:
        told = translated(
            "{found}: the intervals will be missing, as are the differences", found=found
        )
    else:
        told = translated("{found}: the intervals will be wide", found=found)
    sink(Notice(told, "warning"))


def _say_only_liked(held: Sequence[Measurable], sink: Sink) -> bool:
    """Tell whether all are answers that users liked: then there is nothing to tell apart."""
    if not all(isinstance(one, FeedbackExample) and one.is_desirable for one in held):
        return False
    only = translated(
        "all held-out answers are liked: their questions are asked, and the liked answers right"
    )
    sink(Notice(only, "warning"))
    return True


def _questions(held: Sequence[Measurable]) -> list[Measurable]:
    """Where answers are checked, every question is asked once, and its best answer is right."""
    found: dict[str, Measurable] = {}
    for number, example in enumerate(held):
        key = str(number)
        if isinstance(example, PreferenceExample):
            messages = (*example.prompt, *example.chosen)
            example = ChatExample(
                example.location, messages, tools=example.tools, group=example.group,
                extra=example.extra,
            )  # fmt: skip
        elif isinstance(example, FeedbackExample):
            key = repr((example.prompt, example.tools, example.extra))
            before = found.get(key)
            if isinstance(before, FeedbackExample) and (
                before.is_desirable or not example.is_desirable
            ):
                continue
        found[key] = example
    return list(found.values())


def _labels(train: Sequence[Example], held: Sequence[Measurable], sink: Sink) -> list[str]:
    """List the labels to choose from: those learned, and those that are right somewhere."""
    known = {e.label for e in train if isinstance(e, ClassificationExample)}
    asked = {e.label for e in held if isinstance(e, ClassificationExample)}
    if new := sorted(asked - known):
        labels = translated_count(
            len(new),
            "label of the held-out examples is not",
            "labels of the held-out examples are not",
        )
        told = (
            translated(
                "{labels} among the training examples, such as '{first}': no variant could learn "
                "them",
                labels=labels,
                first=new[0],
            )
            if len(new) > 1
            else translated(
                "{labels} among the training examples, such as '{first}': no variant could learn "
                "it",
                labels=labels,
                first=new[0],
            )
        )
        sink(Notice(told, "warning"))
    return sorted(known | asked) if asked else []


def _record(
    variants: Sequence[Variant],
    comparison: Comparison,
    items: Sequence[Item],
    workspace: Workspace,
) -> None:
    """Keep the comparison in the store and in each variant's card."""
    table = markdown_table(comparison)
    base_alone = next(one for one in comparison.costs if one.variant in ("zero-shot", BASE_ALONE))
    for variant in variants:
        metrics = {m.metric: m.value for m in comparison.measured if m.variant == variant.name}
        cost = comparison.cost(variant.name)
        before = base_alone.general_loss
        if cost.general_loss is not None and before is not None:
            metrics |= {"general_loss": cost.general_loss, "general_loss_base": before}
        # Its manifest keeps the name that it was made with.
        add_metrics(read_variant(variant.folder), table, metrics)
    with open_store(workspace.store) as store:
        fingerprint = hash_json([item.id for item in items])
        store.add_evaluation(fingerprint, comparison.variants, comparison.to_json())
