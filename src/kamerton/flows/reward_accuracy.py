"""The share of pairs that moved the right way since a variant's reference."""

from collections.abc import Sequence

from kamerton.evaluation.items import Answers
from kamerton.flows.recipe import recipe_of
from kamerton.objectives.reward import RewardSettings
from kamerton.store.variants import Variant

__all__ = ["with_reward_accuracy"]


def with_reward_accuracy(answers: Sequence[Answers], variants: Sequence[Variant]) -> list[Answers]:
    """Compare every variant with its reference, where pairs were scored.

    Training measures the same with the reference under the variant's own prompt; the two agree
    where the prompts do.

    Args:
        answers: The first is that of the base alone, zero-shot.
        variants: The variants among the answers.

    Returns:
        The answers; those of a variant with its `reward_accuracy` relative to the variant that it
        went on from, or else to the base alone.
    """
    by_name = {answer.variant: answer for answer in answers}
    by_hash = {one.manifest.content_hash: by_name[one.name] for one in variants}
    named = {one.name: one for one in variants}
    found = []
    for answer in answers:
        variant = named.get(answer.variant)
        if variant is not None and answer.gaps:
            recipe, parents = recipe_of(variant), variant.manifest.parents
            reference = answers[0] if not recipe.start_from else by_hash.get((parents or [""])[0])
            # A reward has no log-probability to be compared with.
            if reference is not None and not isinstance(recipe.objective, RewardSettings):
                answer = answer.relative_to(reference)
        found.append(answer)
    return found
