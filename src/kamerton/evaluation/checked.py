"""One metric of one variant, item by item."""

from dataclasses import dataclass

from kamerton.evaluation import metrics
from kamerton.evaluation.results import Unit
from kamerton.evaluation.statistics import Finish, Floats

__all__ = ["Checked"]


@dataclass(frozen=True)
class Checked:
    """One metric of one variant, item by item.

    Attributes:
        metric: Its name.
        values: What each item is worth, NaN where it is not counted, [n]: 0 or 1 of a share. Under
            F1: was the class right.
        features: What each item adds to the metric's sums, [n, K].
        finish: Makes the metric of the sums.
        better: `higher`, `lower`, or `neither` for what is only reported.
        unit: What the metric is counted in.
    """

    metric: str
    values: Floats
    features: Floats
    finish: Finish
    better: str = "higher"
    unit: Unit = "share"

    @property
    def is_share(self) -> bool:
        """Whether the metric is the share of counted items with value 1."""
        return self.unit == "share" and self.finish is metrics.mean
