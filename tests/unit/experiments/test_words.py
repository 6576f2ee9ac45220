"""Every verdict, decision, metric and unit has its words."""

from typing import get_args

import pytest

from kamerton.core.language import Language, speaking
from kamerton.evaluation.live_metrics import BUILT_IN
from kamerton.experiments.guardrails import GuardrailVerdict
from kamerton.experiments.settings import UnitKind
from kamerton.experiments.verdict import Aspect, Decision, Verdict
from kamerton.experiments.words import (
    advice_text,
    aspect_text,
    decision_word,
    event_text,
    guardrail_word,
    known_text,
    metric_name,
    unit_word,
    verdict_word,
)

NAMES = {"variant": "ours", "control": "theirs", "answering": "theirs"}


@pytest.mark.parametrize("language", ["en", "ru"])
def test_everything_has_its_words(language: Language) -> None:
    with speaking(language):
        said = [
            *(verdict_word(one) for one in get_args(Verdict)),
            *(guardrail_word(one) for one in get_args(GuardrailVerdict)),
            *(decision_word(one) for one in get_args(Decision)),
            *(advice_text(one, **NAMES) for one in (*get_args(Decision), "stopped arm", "ended")),
            *(aspect_text(one, "") for one in get_args(Aspect)),
            *(
                known_text(aspect, verdict, "+1")
                for aspect in get_args(Aspect)
                for verdict in get_args(Verdict)
                if verdict != "hidden"
            ),
            *(unit_word(one) for one in get_args(UnitKind)),
            *(metric_name(one) for one in BUILT_IN),
        ]
    assert len(said) > 50
    assert all(one.isascii() == (language == "en") for one in said), said


def test_built_in_metrics_have_names_and_others_keep_theirs() -> None:
    assert metric_name("refusal") == "refusals"
    with speaking("ru"):
        assert metric_name("refusal") == "доля отказов"
        assert metric_name("reopened") == "reopened"


def test_an_unknown_event_keeps_its_name() -> None:
    with speaking("ru"):
        assert event_text("arm stopped", "lora") == "вариант lora отключён"
        assert event_text("looked at", "") == "looked at"
