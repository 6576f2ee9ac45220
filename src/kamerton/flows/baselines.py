"""The baselines of variants: prompting alone, and the variants that they went on from."""

from collections.abc import Sequence
from graphlib import TopologicalSorter

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.events import Notice, Sink
from kamerton.data.examples import Example
from kamerton.flows.prepare import make_prompt
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.workspace import Workspace
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, find_variant

__all__ = ["baseline_prompts", "read_starts", "same_base", "shortened"]


def baseline_prompts(
    recipe: Recipe, train: Sequence[Example], shots: int, sink: Sink
) -> list[Prompt]:
    """Make the prompts that need no training: without worked examples, and with those there are.

    Args:
        recipe: Has the system text.
        train: The examples that worked examples are taken from.
        shots: The number of worked examples; 0 leaves that prompt out.
        sink: The sink, which is told when there are none.

    Returns:
        One or two prompts.
    """
    prompts = [make_prompt(recipe, train, 0)]
    if shots:
        prompt = make_prompt(recipe, train, shots)
        if prompt.demonstrations:
            prompts.append(prompt)
        else:
            none = "no training example can be shown as a worked example: few-shot is left out"
            sink(Notice(none, "warning"))
    return prompts


def shortened(prompt: Prompt) -> tuple[Prompt, ...]:
    """List a prompt and what is left of it as worked examples are taken from its front.

    Args:
        prompt: The prompt with all its worked examples.

    Returns:
        That prompt, and shorter ones down to none.
    """
    shown = prompt.demonstrations
    return tuple(
        prompt.model_copy(update={"demonstrations": shown[left_out:]})
        for left_out in range(len(shown) + 1)
    )


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
            missing = f"{variant.name} went on from '{name}', and is not compared with it: {start}"
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
        return f"'{name}' is another variant now than it was then"
    if any(other.name == start.name for other in others):
        return "another variant of that name is compared"
    return start if same_base(start, variant) else "its base was held in other bits"
