"""Advice after a run, on made-up curves."""

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest

from kamerton.advisor.after_training import RunCurves, advise_after_training
from kamerton.core.language import speaking

STEPS = 110


def command(settings: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def curves(held_out: list[float], *, losses: list[float] | None = None) -> RunCurves:
    """Five epochs of 22 steps, measured after each."""
    every = STEPS // max(1, len(held_out))
    falling = [0.3 + 2 * math.exp(-step / 20) for step in range(STEPS)]
    return RunCurves(
        losses=falling if losses is None else losses,
        held_out=[((number + 1) * every, loss) for number, loss in enumerate(held_out)],
        num_held_out=40,
        epochs=5,
        max_steps=0,
        rate=1.3e-3,
        loss_of_base=3.0,
        general_loss=3.9,
        general_loss_of_base=3.7,
    )


def advised(run: RunCurves) -> list[tuple[str, str]]:
    return [(one.text, one.command) for one in advise_after_training(run, command)]


def test_a_loss_that_still_falls_asks_for_more() -> None:
    assert advised(curves([2.0, 1.5, 1.2, 1.0, 0.85])) == [
        (
            "the loss was still falling at the end (1.00 to 0.85): take 3 more epochs, or a rate "
            "of 0.0026",
            "train.epochs=8",
        )
    ]


def test_preferences_that_still_fall_are_left_alone() -> None:
    assert advised(replace(curves([0.5, 0.3, 0.2, 0.1, 0.05]), is_relative=True)) == []


def test_a_limit_on_steps_is_raised_and_the_epochs_with_it() -> None:
    run = replace(curves([2.0, 1.5, 1.2, 1.0, 0.85]), max_steps=STEPS)
    ((text, settings),) = advised(run)
    assert "twice as many steps" in text
    assert settings == "train.max_steps=220 train.epochs=10"


def test_a_loss_that_turned_asks_for_fewer_epochs() -> None:
    ((text, settings),) = advised(curves([1.2, 0.9, 1.0, 1.2, 1.3]))
    assert text.startswith("the held-out loss turned at step 44 of 110 (0.90, at the end 1.30)")
    assert settings == "train.epochs=2"


def test_the_best_weights_are_asked_for_where_the_last_were_kept() -> None:
    ((_, settings),) = advised(replace(curves([1.2, 0.9, 1.0, 1.2, 1.3]), keeps_best=False))
    assert settings == "train.epochs=2 train.keep=best"


def test_a_loss_that_turned_at_once_asks_for_a_smaller_rate() -> None:
    ((text, settings),) = advised(curves([0.9, 1.0, 1.1, 1.2, 1.3]))
    assert "from the first measurement on" in text
    assert settings == "train.learning_rate=0.00043"


@pytest.mark.parametrize(
    "held_out",
    [
        [1.5, 1.1, 1.02, 1.0, 1.0],
        [1.00, 1.01, 0.99, 1.00, 1.01],
        [0.99, 1.00, 1.00, 1.01, 1.01],
        [1.01, 1.00, 1.01, 0.99, 0.98],
        [0.002, 0.001, 0.0008, 0.0005, 0.0002],
        [0.0002, 0.0005, 0.0008, 0.001, 0.002],
    ],
    ids=["settled", "flat", "rises a little", "falls a little", "tiny", "tiny and rising"],
)
def test_a_settled_or_noisy_curve_asks_for_nothing(held_out: list[float]) -> None:
    assert advised(curves(held_out)) == []


def test_noise_seldom_asks_for_anything() -> None:
    """Flat curves with the noise that a mean over 40 held-out examples has between epochs."""
    random, told = Random(5), 0
    for _ in range(500):
        held_out = [1.0 + random.gauss(0, 0.01) for _ in range(5)]
        flat = [1.0 + random.gauss(0, 0.2) for _ in range(STEPS)]
        told += bool(advised(curves(held_out, losses=flat)))
    assert told < 20


def test_few_held_out_examples_need_a_larger_change() -> None:
    run = curves([1.2, 1.0, 1.02, 1.03, 1.04])
    assert advised(run)
    assert advised(replace(run, num_held_out=10)) == []
    ((text, settings),) = advised(replace(run, num_held_out=2))
    assert text.startswith("2 held-out examples cannot say when to stop")
    assert settings == "data.holdout=0.2"


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_one_epoch_is_judged_by_its_training_loss(noise: float) -> None:
    random = Random(1)
    falling = [3 - 2 * step / STEPS + random.gauss(0, noise) for step in range(STEPS)]
    run = replace(curves([1.0], losses=falling), epochs=1)
    ((text, settings),) = advised(run)
    assert "still falling" in text
    assert settings == "train.epochs=2"
    flat = [1 + random.gauss(0, 0.2) for _ in range(STEPS)]
    assert advised(replace(run, losses=flat)) == []
    # Of several epochs the training loss says nothing: examples are learned by heart.
    assert advised(replace(run, epochs=5)) == []


def test_a_run_that_broke_asks_for_a_tenth_of_the_rate_and_nothing_else() -> None:
    broken = [2.0] * 30 + [9.0] * 80
    run = replace(curves([8.0, 8.5, 9.0, 9.0, 9.1], losses=broken), general_loss=11.9)
    ((text, settings),) = advised(run)
    assert text.startswith("the training loss rose from 2.00 to 9.00")
    assert settings == "train.learning_rate=0.00013 --try"


def test_a_run_without_effect_asks_for_a_larger_rate() -> None:
    flat = [3.0] * STEPS
    ((text, settings),) = advised(curves([3.0, 2.99, 2.98, 2.98, 2.98], losses=flat))
    assert text.startswith("the variant hardly learned anything (held-out loss 2.98, base 3.00)")
    assert settings == "train.learning_rate=0.0039 --try"


def test_learning_by_heart_is_told_from_learning() -> None:
    ((text, settings),) = advised(curves([3.0, 3.1, 3.2, 3.3, 3.4]))
    assert "no better than the base" in text
    assert settings == "train.learning_rate=0.00043"


def test_what_it_forgot_asks_for_a_smaller_rate_and_not_for_more_epochs() -> None:
    run = replace(curves([2.0, 1.5, 1.2, 1.0, 0.85]), general_loss=11.88, general_loss_of_base=3.74)
    ((text, settings),) = advised(run)
    assert text == (
        "it forgot much of its general language (loss 3.74 to 11.88): take a smaller rate, 0.00043"
    )
    assert settings == "train.learning_rate=0.00043"
    ((text, _),) = advised(replace(run, scores_labels=True))
    assert "does no harm" in text


def test_losses_of_own_answers_say_nothing() -> None:
    assert advised(replace(curves([-1.0, -2.0, 3.0]), is_minimised=False)) == []
    assert advised(curves([-0.5, -0.2, -0.1], losses=[-0.1] * STEPS)) == []


def test_advice_is_given_in_russian() -> None:
    with speaking("ru"):
        ((text, _),) = advised(curves([2.0, 1.5, 1.2, 1.0, 0.85]))
    assert text == (
        "к концу ошибка всё ещё снижалась (1.00, в конце 0.85): добавьте 3 эпохи "
        "или возьмите скорость обучения 0.0026"
    )
