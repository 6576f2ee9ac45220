"""`kamerton variant combine`: combine variants of a project, and note the result in its store."""

from collections.abc import Sequence

from kamerton.adapters.combine import CombineSettings
from kamerton.flows.workspace import Workspace
from kamerton.store.database import open_store
from kamerton.store.variants import Variant
from kamerton.variants.combine import combined
from kamerton.variants.load import Opening

__all__ = ["combine_variants"]


def combine_variants(
    variants: Sequence[Variant],
    name: str,
    workspace: Workspace,
    settings: CombineSettings,
    opening: Opening | None = None,
) -> Variant:
    """Combine variants into a new one of a project.

    Args:
        variants: At least two variants of one base and one method.
        name: The new variant's name; must not be taken.
        workspace: The workspace of variants and store.
        settings: How the adapters are combined.
        opening: The way the base is opened; None takes it from the first one's manifest.

    Returns:
        The variant; its notes say what combining may have broken.

    Raises:
        VariantError: If they are not of one method and the same base, held alike.
        AdapterError: If their adapters cannot be combined so.
    """
    variant = combined(variants, name, workspace.variants, settings, opening)
    with open_store(workspace.store) as store:
        store.add_variant(variant.manifest.model_dump(mode="json"), variant.folder)
    return variant
