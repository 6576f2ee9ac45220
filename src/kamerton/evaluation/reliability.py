"""How far a style check can be trusted, as a record and in words."""

from dataclasses import dataclass

from kamerton.core.language import translated

__all__ = ["LEAST_RELIABLE", "StyleReliability", "reliability_text"]

LEAST_RELIABLE = 0.75
"""A check whose balanced accuracy may be lower than this, by its interval, is left out."""


@dataclass(frozen=True, slots=True)
class StyleReliability:
    """How a style check judged texts that it was not trained on.

    Attributes:
        metric: The check's name.
        against: What the brand's texts were told from, such as `the questions`.
        num_brand: The brand's texts.
        num_others: The other texts.
        balanced_accuracy: Mean of the shares of both sides that were judged right; 0.5 is chance.
        low: Lower end of its interval.
        high: Upper end.
        brand_recognised: Share of the brand's texts that passed.
        others_mistaken: Share of the other texts that passed.
    """

    metric: str
    against: str
    num_brand: int
    num_others: int
    balanced_accuracy: float
    low: float
    high: float
    brand_recognised: float
    others_mistaken: float

    @property
    def is_enough(self) -> bool:
        """Whether the check can be trusted to measure answers."""
        return self.low >= LEAST_RELIABLE


def reliability_text(reliability: StyleReliability) -> str:
    """Word a reliability.

    Args:
        reliability: What was measured.

    Returns:
        One or two sentences.
    """
    return translated(
        "{metric}: of texts that it did not see, {recognised} % of the brand's own pass, and "
        "{mistaken} % of {against}; it judges {accuracy} % [{low}, {high}] of both right",
        metric=reliability.metric,
        against=reliability.against,
        recognised=f"{100 * reliability.brand_recognised:.0f}",
        mistaken=f"{100 * reliability.others_mistaken:.0f}",
        accuracy=f"{100 * reliability.balanced_accuracy:.0f}",
        low=f"{100 * reliability.low:.0f}",
        high=f"{100 * reliability.high:.0f}",
    )
