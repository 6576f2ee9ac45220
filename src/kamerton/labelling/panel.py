"""Several teachers together: they agree or not, and that says how sure a label is."""

from collections.abc import Iterator, Sequence

from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.labelling.teacher import Teacher, Verdict

__all__ = ["Panel", "agreed"]


class Panel:
    """Asks one teacher after another and joins their verdicts.

    Args:
        teachers: At least one; they choose from the same labels.
        sink: Receives the progress of all but the last.
    """

    def __init__(self, teachers: Sequence[Teacher], sink: Sink) -> None:
        assert teachers
        self._teachers, self._sink = teachers, sink

    @property
    def labels(self) -> Sequence[str]:
        """All labels that any of them knows."""
        return tuple(dict.fromkeys(name for one in self._teachers for name in one.labels))

    @property
    def note(self) -> str:
        """What each of them shows."""
        return "".join(one.note for one in self._teachers)

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        """Label texts.

        Args:
            texts: What to label.

        Yields:
            Position and verdict of texts that all teachers were asked about.
        """
        *others, last = self._teachers
        found: list[dict[int, Verdict]] = []
        for number, teacher in enumerate(others, 1):
            found.append({})
            for at, verdict in teacher.judge(texts):
                found[-1][at] = verdict
                done = len(found[-1])
                self._sink(
                    Progress(
                        translated("teacher {number}", number=number),
                        done,
                        len(texts),
                        f"rows{teacher.note}",
                    )
                )
        for at, verdict in last.judge(texts):
            if all(at in earlier for earlier in found):
                yield at, agreed([*(earlier[at] for earlier in found), verdict])


def agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """Join what several teachers say of one text.

    Args:
        verdicts: One of each teacher.

    Returns:
        The label with the largest sum of confidence, with that sum over the number of teachers: 1
        where all are sure of one label. Who gives no label takes part in the number.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    sums: dict[str, float] = {}
    for one in verdicts:
        if not one.fault:
            sums[one.label] = sums.get(one.label, 0.0) + one.confidence
    if not sums:
        return verdicts[0]
    best = max(sums, key=lambda name: sums[name])
    return Verdict(best, sums[best] / len(verdicts))
