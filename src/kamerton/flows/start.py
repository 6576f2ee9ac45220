"""Going on from a variant: its adapter and its prompt are where the new one begins."""

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.language import translated
from kamerton.flows.recipe import PromptSettings, Recipe, recipe_of
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.store.variants import Variant, find_variant
from kamerton.variants.load import ensure_same_base
from kamerton.variants.opening import ensure_writes

__all__ = ["ensure_same_weights", "read_members", "read_start", "taken_over"]


def read_start(recipe: Recipe, workspace: Workspace) -> Variant | None:
    """Read the variant that a recipe goes on from.

    Args:
        recipe: Names it in `start_from`.
        workspace: The workspace that has it.

    Returns:
        The variant, or None when the recipe begins anew.

    Raises:
        VariantError: If it is missing, damaged, a prompt only, or the recipe's own name.
    """
    if not recipe.start_from:
        return None
    if recipe.start_from == recipe.name:
        raise VariantError(
            translated(
                "start_from: '{start_from}' is the recipe's own name, and would be replaced",
                start_from=recipe.start_from,
            ),
            hint=translated("give the new variant another name"),
        )
    variant = find_variant(recipe.start_from, workspace.variants, key="start_from")
    if recipe.objective.kind != "reward":
        ensure_writes(variant, "gone on from")
    if not variant.manifest.files:
        raise VariantError(
            translated(
                "start_from: '{name}' is a prompt without a trained part", name=variant.name
            ),
            hint=translated("take its [prompt] into this recipe, and leave start_from out"),
        )
    return variant


def read_members(recipe: Recipe, workspace: Workspace) -> list[Variant]:
    """Read the variants that a recipe's adapter is made of.

    Args:
        recipe: Its adapter's settings name them if the method is made of others.
        workspace: The workspace that has them.

    Returns:
        The variants in order; none for other methods.

    Raises:
        VariantError: If one is missing, damaged, named twice, or the recipe's own name.
    """
    names = recipe.adapter.member_names
    if recipe.name in names or len(set(names)) < len(names):
        raise VariantError(
            translated(
                "adapter.variants: names must be different, and none the recipe's own, "
                "got {listed}",
                listed=", ".join(names),
            )
        )
    members = [find_variant(name, workspace.variants, key="adapter.variants") for name in names]
    for member in members:
        ensure_writes(member, "made a part of another")
    return members


def taken_over(recipe: Recipe, start: Variant | None) -> Recipe:
    """Fill a recipe with what the starting variant decides.

    Args:
        recipe: The recipe as it was written.
        start: The starting variant, if any.

    Returns:
        The recipe with its adapter's settings, and with its prompt unless the recipe has one.

    Raises:
        SettingsError: If the recipe asks for another adapter.
    """
    if start is None:
        return recipe
    before = recipe_of(start)
    if "adapter" in recipe.model_fields_set and recipe.adapter != before.adapter:
        raise SettingsError(
            translated(
                "adapter: a variant that goes on from '{name}' has its adapter (kind "
                "'{kind}'), found other settings",
                name=start.name,
                kind=before.adapter.kind,
            )
        )
    changed: dict[str, object] = {"adapter": before.adapter}
    if "prompt" not in recipe.model_fields_set:
        changed["prompt"] = PromptSettings.model_validate(before.prompt.model_dump())
    return recipe.model_copy(update=changed)


def ensure_same_weights(variant: Variant, base: Base) -> None:
    """Refuse to learn from a variant over another base than its own, or one rounded otherwise.

    Args:
        variant: The starting variant, or a member of the new one.
        base: The base as it was loaded.

    Raises:
        VariantError: If the base or `base.quantise` differs.
    """
    ensure_same_base(variant, base)
    made, here = variant.manifest.base.quantise, base.identity.quantise
    if made != here:
        raise VariantError(
            translated(
                "'{name}' was made over a base with base.quantise = \"{made}\", the recipe "
                'has "{here}"',
                name=variant.name,
                made=made,
                here=here,
            ),
            hint=translated('set base.quantise = "{made}"', made=made),
        )
