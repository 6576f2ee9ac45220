"""The baselines of variants: prompting alone, and the variants that they went on from."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from typing import Literal

from kamerton.advisor.instructions import MOST_CHARACTERS, instruction, task_sentence
from kamerton.advisor.kinds import Kind, kind_of_task
from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.data.audit.languages import language_guesser
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
)
from kamerton.data.identity import whole_text
from kamerton.data.rendering.renderer import Renderer
from kamerton.evaluation.items import spread
from kamerton.flows.prepare import make_prompt
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.workspace import Workspace
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, find_variant

__all__ = ["baseline_prompts", "built_instruction", "read_starts", "same_base", "shortened"]

_TEXTS_READ = 100
_BUDGET_TOKENS = 1_024
"""A batch of questions reads the worked examples once, so these tokens cost seconds on a CPU."""
_LEAST_TOKENS = 8
"""No worked example has fewer: two marks of turns, a question and an answer."""
_TOLD_BY_THEIR_DATA = ("classes", "several classes", "fields", "rewriting")


def baseline_prompts(
    recipe: Recipe,
    train: Sequence[Example],
    shots: int | Literal["fit"],
    system: str,
    renderer: Renderer,
    sink: Sink,
) -> dict[str, Prompt]:
    """Make the prompts that need no training: without worked examples, and with those there are.

    Args:
        recipe: Has the system text.
        train: The examples that worked examples are taken from.
        shots: The number of worked examples; 0 leaves that prompt out.
        system: The system text where the recipe has none; may be empty.
        renderer: The base's renderer, which counts tokens.
        sink: The sink, which is told when there are none.

    Returns:
        One or two prompts by name.
    """
    given = {"system": recipe.prompt.system or system or None}
    zero = make_prompt(recipe, train, 0).model_copy(update=given)
    if shots == 0:
        return {"zero-shot": zero}

    def with_shots(number: int) -> Prompt:
        return make_prompt(recipe, train, number).model_copy(update=given)

    if shots == "fit":
        shots = _shots_that_fit(with_shots, train, renderer)
    few = with_shots(shots)
    if not few.demonstrations:
        none = translated(
            "no training example can be shown as a worked example: few-shot is left out"
        )
        sink(Notice(none, "warning"))
        return {"zero-shot": zero}
    return {"zero-shot": zero, f"{len(few.demonstrations)}-shot": few}


def built_instruction(
    recipe: Recipe, train: Sequence[Example], held: Sequence[Example], sink: Sink
) -> tuple[str, ...]:
    """Write the instruction that a user would give to a base which nothing was taught.

    Args:
        recipe: Its `purpose` names the task where it is given; with a `prompt.system` of its own,
            no instruction is written.
        train: Examples that show the task, its labels and its language.
        held: The questions; where one has a system text of its own, no instruction is written.
        sink: The sink, which is told where labels are too many to be named.

    Returns:
        The instruction, and for classes its first sentence alone: named labels mislead some small
        bases. None where the examples tell of no task: an answer to a question, or a verdict on
        one, asks for nothing that the question does not say.
    """
    if recipe.prompt.system or not train or any(map(_has_system, (*train, *held))):
        return ()
    kind = kind_of_task(train)
    says_more = recipe.purpose.strip() and kind.name in ("answers", "dialogues")
    if kind.name not in _TOLD_BY_THEIR_DATA and not says_more:
        return ()
    language = _language(train)
    text = instruction(kind, recipe.purpose, language)
    if _are_too_many(kind):
        sink(
            Notice(
                translated(
                    "the labels are too many to be named in the instruction: write prompt.system"
                ),
                "warning",
            )
        )
    if isinstance(train[0], ClassificationExample):
        return tuple(dict.fromkeys((text, task_sentence(kind, recipe.purpose, language))))
    return (text,)


def shortened(prompt: Prompt, *, or_without: str = "") -> tuple[Prompt, ...]:
    """List a prompt and what is left of it as worked examples are taken from its front.

    Args:
        prompt: The prompt with all its worked examples.
        or_without: A system text that goes last, where there is no room for it.

    Returns:
        That prompt, and shorter ones down to none.
    """
    shown = prompt.demonstrations
    shorter = tuple(
        prompt.model_copy(update={"demonstrations": shown[left_out:]})
        for left_out in range(len(shown) + 1)
    )
    return (*shorter, Prompt()) if or_without and prompt.system == or_without else shorter


def same_base(variant: Variant, other: Variant) -> bool:
    """Tell whether two variants can be compared over one base.

    Args:
        variant: One variant.
        other: Another variant.

    Returns:
        Whether their bases have the same weights, tokenizer, template and bits.
    """
    decides = ("weight_hash", "tokenizer_hash", "template_hash", "quantise")
    mine, its = variant.manifest.base, other.manifest.base
    return all(getattr(mine, name) == getattr(its, name) for name in decides)


def read_starts(
    variants: Sequence[Variant], workspace: Workspace, sink: Sink
) -> tuple[list[Variant], dict[str, set[str]]]:
    """Read what variants went on from.

    Args:
        variants: The compared variants.
        workspace: The workspace of the others.
        sink: The sink, which is told of those that cannot be compared with.

    Returns:
        Those variants, each after the one that it went on from itself; and by the name of each
        those that came of it, which alone have to beat it.
    """
    found: dict[str, Variant] = {}
    start_of: dict[str, str] = {}
    for variant in variants:
        # A combination has the recipe of its first part, but did not go on from that one's start.
        if not (name := recipe_of(variant).start_from) or variant.manifest.combination:
            continue
        start = _start(name, variant, variants, workspace)
        if isinstance(start, str):
            missing = translated(
                "{variant} went on from '{name}', and is not compared with it: {reason}",
                variant=variant.name,
                name=name,
                reason=start,
            )
            sink(Notice(missing, "warning"))
        else:
            found[start.manifest.content_hash] = start
            start_of[variant.name] = start.name
    before = {
        key: [parent for parent in start.manifest.parents if parent in found and parent != key]
        for key, start in found.items()
    }
    starts = [found[key] for key in TopologicalSorter(before).static_order()]
    only_for: dict[str, set[str]] = {start.name: set() for start in starts}
    for name in start_of:
        earlier = start_of.get(name)
        while earlier is not None:
            only_for[earlier].add(name)
            earlier = start_of.get(earlier)
    return starts, only_for


def _start(
    name: str, variant: Variant, variants: Sequence[Variant], workspace: Workspace
) -> Variant | str:
    """Find the very variant that another went on from, or say why it cannot be compared."""
    content = variant.manifest.parents[:1]
    others = [one for one in variants if one is not variant]
    for other in others:
        if [other.manifest.content_hash] == content:
            return other
    try:
        start = find_variant(name, workspace.variants)
        recipe_of(start)
    except (SettingsError, VariantError) as error:
        return error.message
    if [start.manifest.content_hash] != content:
        return translated("'{name}' is another variant now than it was then", name=name)
    if any(other.name == start.name for other in others):
        return translated("another variant of that name is compared")
    if not same_base(start, variant):
        return translated("its base was held in other bits")
    return start


def _shots_that_fit(
    with_shots: Callable[[int], Prompt], train: Sequence[Example], renderer: Renderer
) -> int:
    """Find the largest number of worked examples that goes into the budget, 1 at least.

    Above the number of labels only its multiples count, so that all labels are shown alike. More
    examples are seldom fewer tokens, so halving finds the number in some ten renderings.
    """
    budget = min(_BUDGET_TOKENS, renderer.max_tokens // 2)
    most = min(len(train), budget // _LEAST_TOKENS)
    labels = len({e.label for e in train if isinstance(e, ClassificationExample)}) or 1
    numbers = [*range(1, min(labels, most + 1)), *range(labels, most + 1, labels)]

    def tokens(number: int) -> int:
        asked = with_shots(number).apply(({"role": "user", "content": ""},))
        return len(renderer.prompt_ids(asked))

    return numbers[max(bisect_right(numbers, budget, key=tokens) - 1, 0)] if numbers else 1


def _has_system(example: Example) -> bool:
    match example:
        case ChatExample():
            messages = example.messages
        case PreferenceExample() | FeedbackExample():
            messages = example.prompt
        case _:
            return False
    return any(message["role"] == "system" for message in messages)


def _language(train: Sequence[Example]) -> str:
    """Tell the language of most of the examples."""
    guess = language_guesser()
    found = Counter(guess(whole_text(example)) for example in spread(train, _TEXTS_READ))
    return found.most_common(1)[0][0]


def _are_too_many(kind: Kind) -> bool:
    return len("; ".join(kind.labels)) > MOST_CHARACTERS
