"""What a reader must know beside a style metric."""

from kamerton.core.language import translated
from kamerton.evaluation.reliability import StyleReliability, reliability_text
from kamerton.evaluation.results import Comparison

__all__ = ["style_text"]


def style_text(comparison: Comparison, style: StyleReliability) -> str:
    """Say how far a style check can be trusted, and whether the base alone passes it already.

    Args:
        comparison: The comparison.
        style: One of its style checks.

    Returns:
        One or two sentences.
    """
    said = f"{reliability_text(style)}."
    alone = comparison.variants[0]
    if comparison.measure(style.metric, alone).value < style.brand_recognised:
        return said
    more = translated(
        "The answers of {alone} pass as often as the brand's own texts, so this check cannot show "
        "what training adds: name a file with answers that do not sound like the brand "
        '(against = "others.txt").',
        alone=alone,
    )
    return f"{said} {more}"
