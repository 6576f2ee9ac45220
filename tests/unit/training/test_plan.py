"""Plans: every example once per epoch, limits kept, the same for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.training.plan import (
    learning_rate_at,
    measured_after,
    plan_epoch,
    plan_run,
    work_after_steps,
)
from kamerton.training.settings import TrainSettings

lengths_of = st.lists(st.integers(1, 50), min_size=1, max_size=80)


@given(lengths_of, st.integers(1, 120), st.integers(0, 5))
def test_an_epoch_has_every_example_once_within_the_budget(lengths, budget, epoch) -> None:
    settings = TrainSettings(tokens_per_step=budget)
    steps = plan_epoch(lengths, settings, epoch)
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    for step in steps:
        assert len(step) == 1 or sum(lengths[index] for index in step) <= budget


def test_epochs_differ_and_seeds_decide() -> None:
    lengths = [1] * 40
    one = TrainSettings(epochs=2, tokens_per_step=8)
    plan = plan_run(lengths, one)
    assert plan == plan_run(lengths, one)
    assert plan[:5] != plan[5:]
    assert plan != plan_run(lengths, one.model_copy(update={"seed": 1}))
    assert len(plan_run(lengths, one.model_copy(update={"max_steps": 3}))) == 3


def test_the_work_that_is_left_counts_tokens_and_a_third_of_what_is_measured() -> None:
    plan = [[0, 1], [2], [1]]
    assert work_after_steps([5, 7, 20], plan, {2, 3}, 30) == [59.0, 47.0, 17.0, 0.0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules(schedule) -> None:
    settings = TrainSettings(schedule=schedule, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1
    assert rates[99] == (1 if schedule == "constant" else pytest.approx(0, abs=0.02))


def test_the_holdout_is_measured_at_ends_of_epochs_or_every_so_many_steps() -> None:
    lengths, settings = [1] * 40, TrainSettings(epochs=3, tokens_per_step=8)
    assert measured_after(lengths, settings, 15) == {5, 10, 15}
    assert measured_after(lengths, settings, 12) == {5, 10, 12}
    often = settings.model_copy(update={"evaluate_every": 4})
    assert measured_after(lengths, often, 15) == {4, 8, 12, 15}
