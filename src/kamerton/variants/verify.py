"""Verifying a variant: it opens over its very base, and its adapter changes the answers."""

import torch

from kamerton.core.errors import AdapterError
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import largest_change, probe_logits

__all__ = ["verify_variant"]


@torch.no_grad()
def verify_variant(variant: Variant, opening: Opening | None = None) -> float:
    """Load a variant with all checks and measure what its adapter changes.

    Args:
        variant: The variant; its files were verified when it was read.
        opening: The way its base is opened; None takes it from its manifest.

    Returns:
        Largest change of a logit on a probe text; 0 for a prompt-only variant.

    Raises:
        VariantError: If the base is another one.
        AdapterError: If the adapter does not fit or changes nothing.
    """
    base = load_base_for(variant, opening)
    ready = make_ready(variant, base)
    if ready.adapter is None:
        return 0.0
    adapted = probe_logits(ready.renderer, base)
    with ready.adapter.disabled():
        difference = largest_change(adapted, probe_logits(ready.renderer, base))
    if difference == 0:
        raise AdapterError(
            f"{variant.name} answers exactly like its base: the adapter does nothing",
            hint="train it again; the file may have been written before training",
        )
    return difference
