"""Notices about rows that belong together, so that no share of them can be kept aside."""

from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.core.wording import counted
from kamerton.data.identity import input_text
from kamerton.data.prepared import Prepared, divide
from kamerton.data.settings import DataSettings
from kamerton.data.split import tied

__all__ = ["say_ties"]

_LARGE = 0.25
_FAR = 0.5
_SHOWN_CHARACTERS = 40


def say_ties(examples: Prepared, settings: DataSettings, sink: Sink) -> None:
    """Warn of a cluster of rows that is too large for the holdout, and of ties that were cut.

    Args:
        examples: Divided.
        settings: Settings that divided them.
        sink: Receives notices.
    """
    share, held, rows = settings.holdout, examples.holdout, examples.loaded.examples
    if isinstance(share, str) or not share:
        share, held = settings.test, examples.test
    elif settings.test and not isinstance(settings.test, str):
        # The holdout is a share of what the test set leaves.
        rows, _, _ = divide(rows, settings.model_copy(update={"holdout": 0.0}))
    if isinstance(share, str) or not share or not rows:
        return
    missed = abs(len(held) / len(rows) - share) > _FAR * share
    if not (settings.group or missed):
        return
    found = tied(rows)
    if found.by != "questions":
        which = "short questions" if found.by == "long questions" else "questions"
        sink(
            Notice(
                translated(
                    "equal {which} of different groups may stand on both sides of the split: "
                    "tied by them, most rows would be one cluster, of which none can be kept "
                    "aside",
                    which=which,
                )
            )
        )
    if found.num_rows < max(2, _LARGE * len(rows)):
        return
    first = rows[found.first]
    text = input_text(first)[:_SHOWN_CHARACTERS]
    groups = counted(found.num_groups, "group")
    of = f" of {groups}, such as '{first.group}'," if found.num_groups else ""
    sink(
        Notice(
            translated(
                "{num_rows} of {total} rows{of} hang together by their group or an "
                "equal question and stay on one side of the split; the first is "
                "{location} ('{told}')",
                num_rows=found.num_rows,
                total=len(rows),
                of=of,
                location=first.location,
                told=text,
            ),
            "warning",
        )
    )
