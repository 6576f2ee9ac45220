"""A variant on this machine as a teacher: it scores every label, as `kamerton predict` does."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from kamerton.core.errors import SettingsError
from kamerton.core.events import Sink
from kamerton.core.files import hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.language import translated
from kamerton.data.questions import AnswerForm
from kamerton.evaluation.calibration import Calibration
from kamerton.flows.answering import answer_questions, asked_texts
from kamerton.flows.calibrating import calibrate
from kamerton.labelling.given_answers import GivenAnswers
from kamerton.labelling.teacher import Verdict
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import ensure_writes, make_ready

__all__ = ["LocalTeacher"]


class LocalTeacher:
    """Labels texts by the label's probability.

    Args:
        variant: Answers.
        form: What it was asked in training.
        answers: What it has answered already.
        sink: Receives progress and warnings.
        opening: The way the base is opened.

    Raises:
        SettingsError: If the variant has no labels to choose from.
    """

    def __init__(
        self,
        variant: Variant,
        form: AnswerForm,
        answers: GivenAnswers,
        sink: Sink,
        opening: Opening | None,
    ) -> None:
        ensure_writes(variant, "a teacher")
        if not form.labels:
            raise SettingsError(
                translated(
                    "--teacher: {name} writes answers, and a teacher must know labels",
                    name=variant.name,
                ),
                hint=translated("a variant that was trained on texts and labels can be a teacher"),
            )
        self._variant, self._answers, self._sink = variant, answers, sink
        self._opening = opening or Opening(sink=sink)
        self._labels = form.labels

    @property
    def labels(self) -> Sequence[str]:
        """The labels that it learned."""
        return self._labels

    @property
    def note(self) -> str:
        """Nothing: it costs nothing."""
        return ""

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        """Label texts.

        Args:
            texts: What to label.

        Yields:
            Position and verdict; first those that are known already.
        """
        keys = [self._key(text) for text in texts]
        missing = []
        for number, key in enumerate(keys):
            if (known := self._answers.get(key)) is None:
                missing.append(number)
            else:
                yield number, Verdict(**known)
        if not missing:
            return
        base = load_base_for(self._variant, self._opening)
        ready = make_ready(self._variant, base)
        fact = self._key("calibration", kind="fact")
        if (stored := self._answers.get(fact)) is None:
            fitted, _ = calibrate(self._variant, ready, base, self._labels, self._sink)
            stored = asdict(fitted)
            self._answers.finish(fact, stored)
        asked = asked_texts(texts)
        plain = GenerationSettings()
        for number, found in answer_questions(
            ready, base, asked, missing, self._labels, Calibration(**stored), plain
        ):
            verdict = (
                Verdict(fault="too long", said=found["problem"])
                if "problem" in found
                else Verdict(found["label"], found["confidence"])
            )
            self._answers.finish(keys[number], asdict(verdict))
            yield number, verdict

    def _key(self, text: str, kind: str = "text") -> str:
        made_by = [self._variant.manifest.content_hash, list(self._labels), self._opening.dtype]
        return hash_json([kind, text, made_by])
