"""The baseline that reads nothing: it always answers the commonest label."""

from collections import Counter
from collections.abc import Iterable, Sequence

from kamerton.core.language import translated
from kamerton.evaluation.items import Answers, Item

__all__ = ["COMMONEST", "answer_commonest", "shown_name"]

COMMONEST = "always the commonest"
"""Its name in a comparison."""


def shown_name(variant: str) -> str:
    """Word the name of a variant for a reader.

    Args:
        variant: Its name in a comparison.

    Returns:
        The name; that of this baseline in the current language.
    """
    return translated("always the commonest") if variant == COMMONEST else variant


def answer_commonest(items: Sequence[Item], learned: Iterable[str]) -> Answers | None:
    """Answer every item with the label that is commonest among the training examples.

    Args:
        items: The questions, of one kind.
        learned: The label of each training example.

    Returns:
        The answers, which cost nothing and have no losses; the first label in alphabetical order
        among equals. None where no labels are chosen from, or none was learned.
    """
    counts = Counter(learned)
    if not counts or not items[0].labels or items[0].pair or items[0].is_desirable is not None:
        return None
    label = min(counts, key=lambda one: (-counts[one], one))
    num = len(items)
    return Answers(
        variant=COMMONEST,
        kind="scored",
        texts=(label,) * num,
        seconds=(0.0,) * num,
        num_tokens=(0,) * num,
        finish_reasons=("stop",) * num,
        item_ids=tuple(item.id for item in items),
    )
