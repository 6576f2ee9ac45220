"""The source of a comparison's questions, and whether training has chosen by them."""

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.core.language import translated, translated_count
from kamerton.data.examples import Example
from kamerton.data.prepared import Prepared
from kamerton.data.settings import DataSettings
from kamerton.flows.recipe import recipe_of
from kamerton.store.variants import Variant

__all__ = ["MeasuredOn", "choose_measured_on"]


@dataclass(frozen=True, eq=False, slots=True)
class MeasuredOn:
    """The source of the questions that are measured on.

    Attributes:
        name: The name in tables and reports, such as `the test set`.
        source: File or data set.
        examples: The held-out examples; none where a file is yet to be read.
        is_file: Whether the source was given by hand.
        advice: Advice about it; empty when all is well.
    """

    name: str
    source: str
    examples: Sequence[Example] = ()
    is_file: bool = False
    advice: str = ""

    def told(self, num: int) -> str:
        """Word it for a report.

        Args:
            num: Examples asked.

        Returns:
            A description such as `the test set: desk.jsonl, 120 examples`.
        """
        source = self.name if self.is_file else f"{self.name}: {self.source}"
        return f"{source}, {translated_count(num, 'example')}"


def choose_measured_on(
    prepared: Prepared, settings: DataSettings, variants: Sequence[Variant], data: str | None
) -> MeasuredOn:
    """Choose what to measure on: a file given by hand, the test set, or the holdout.

    Args:
        prepared: The first variant's examples.
        settings: The data settings of its recipe.
        variants: All that are compared.
        data: A file given by hand.

    Returns:
        The choice. A holdout by which the step that training kept was chosen is called so: the
        best of several steps is partly the luckiest on these very examples.
    """
    if data is not None:
        return MeasuredOn(data, data, is_file=True)
    if settings.test:
        source = settings.test if isinstance(settings.test, str) else settings.train
        return MeasuredOn(
            translated("the test set, which training never saw"), source, prepared.test
        )
    source = settings.holdout if isinstance(settings.holdout, str) else settings.train
    if any(map(_chose, variants)):
        return MeasuredOn(
            translated("the holdout, which also chose the step that training kept"),
            source,
            prepared.holdout,
            advice=translated(
                "measured on the holdout, which also chose the step that training kept: the "
                "values are a little too good; data.test keeps examples for comparisons alone"
            ),
        )
    return MeasuredOn(
        translated("the holdout, by which nothing was chosen"), source, prepared.holdout
    )


def _chose(variant: Variant) -> bool:
    """Whether training measured on the holdout and kept what did best."""
    train = recipe_of(variant).train
    measured = variant.manifest.files and variant.manifest.data.num_holdout
    return bool(measured) and (train.keep == "best" or train.patience > 0)
