"""Which method fits: every rule, and every source is there."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from kamerton.advisor.kinds import TaskKind
from kamerton.advisor.methods import METHODS, Advice, Situation, advise

ROOT = Path(__file__).parents[3]
LABELS = Situation("classes", 500, has_gpu=False, is_small=False)
PAIRS = Situation("pairs", 2_000, has_gpu=True, is_small=False)


def changed(situation: Situation, **values: object) -> Situation:
    return replace(situation, **values)  # type: ignore[arg-type]


def fitting(situation: Situation) -> list[str]:
    return [advice.method.name for advice in advise(situation) if advice.fits]


def advice_on(name: str, situation: Situation) -> Advice:
    return next(one for one in advise(situation) if one.method.name == name)


def test_the_aim_orders_what_fits() -> None:
    assert fitting(LABELS) == ["LoRA", "prefix", "bottleneck", "few-shot prompt"]
    assert fitting(changed(LABELS, aim="once"))[0] == "few-shot prompt"
    assert fitting(PAIRS)[:2] == ["ORPO + LoRA", "LoRA on the better answers"]
    assert fitting(changed(PAIRS, aim="critical"))[0] == "DPO + LoRA"
    assert fitting(changed(PAIRS, kind="thumbs")) == ["KTO + LoRA"]


@pytest.mark.parametrize(
    ("name", "situation", "reason"),
    [
        ("DPO + LoRA", LABELS, "pairs of a better and a worse"),
        ("KTO + LoRA", LABELS, "learns from thumbs"),
        ("LoRA", PAIRS, "answers to imitate"),
        ("LoRA", changed(LABELS, num_examples=12), "12 examples: it wants about 20"),
        ("prefix", changed(LABELS, must=("merge",)), "cannot be merged"),
        ("all weights", changed(LABELS, must=("switch",)), "cannot be switched"),
        ("all weights", changed(LABELS, num_examples=5_000), "without a GPU"),
        ("pseudo-labels", LABELS, "not label unlabelled texts yet"),
    ],
)
def test_what_does_not_fit_says_why(name: str, situation: Situation, reason: str) -> None:
    advice = advice_on(name, situation)
    assert not advice.fits
    assert reason in advice.why


def test_a_small_base_needs_no_gpu() -> None:
    assert advice_on("all weights", changed(LABELS, num_examples=5_000, is_small=True)).fits


def test_every_kind_of_task_has_a_method_and_every_source_exists() -> None:
    for kind in get_args(TaskKind):
        assert fitting(changed(LABELS, kind=kind)), kind
    assert len(METHODS) == 11
    assert all((ROOT / one).is_file() for method in METHODS for one in method.source.split(", "))
