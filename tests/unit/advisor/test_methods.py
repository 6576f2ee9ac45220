"""Which method fits: every rule, and every source is there."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from kamerton.advisor.kinds import TaskKind
from kamerton.advisor.methods import (
    GUIDANCE,
    METHODS,
    Advice,
    Situation,
    advise,
    guidance_for,
)

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
    assert fitting(LABELS) == ["LoRA", "prefix", "bottleneck", "few-shot prompt", "distillation"]
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
        ("pseudo-labels", LABELS, "with some beside these rows: kamerton label"),
        ("DRPO + LoRA", changed(PAIRS, has_gpu=False), "without a GPU"),
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
    assert len(METHODS) == 14
    assert all((ROOT / one).is_file() for method in METHODS for one in method.source.split(", "))


@pytest.mark.parametrize(
    ("situation", "first"),
    [
        (changed(LABELS, team="small"), ["LoRA", "prefix"]),
        (changed(PAIRS, team="small"), ["ORPO + LoRA"]),
        (changed(PAIRS, team="middle"), ["SimPO + LoRA", "DPO + LoRA"]),
        (
            changed(PAIRS, team="large", aim="critical"),
            ["DPO + LoRA", "DRPO + LoRA", "reward model + PPO"],
        ),
        (changed(LABELS, team="large", aim="once"), ["few-shot prompt"]),
        (changed(LABELS, kind="texts", num_examples=5_000), ["pseudo-labels", "distillation"]),
    ],
)
def test_common_guidance_comes_first(situation: Situation, first: list[str]) -> None:
    assert fitting(situation)[: len(first)] == first


def test_guidance_names_methods_that_are_there() -> None:
    names = {method.name for method in METHODS}
    assert all(name in names for one in GUIDANCE for name in one.methods)
    assert guidance_for(LABELS) is None
    assert fitting(changed(PAIRS, aim="critical"))[:4] == [
        "DPO + LoRA", "LoRA on the better answers", "ORPO + LoRA", "DRPO + LoRA",
    ]  # fmt: skip
