"""The forecast of a recipe: its own first steps, which leave nothing behind."""

import itertools
from pathlib import Path

import pytest

from kamerton.flows.forecast import is_at_hand, measure
from kamerton.flows.recipe import Recipe
from tests.unit.data.files import write_jsonl


def recipe(folder: Path, **train: int) -> Recipe:
    rows = [{"prompt": f"What is number {n}?", "completion": f"It is {n}."} for n in range(24)]
    write_jsonl(folder, rows)
    return Recipe.parse(
        {"name": "x", "base": "builtin:nano", "data": {"train": "rows.jsonl"}, "train": train}
    )


def test_a_sample_stands_for_the_whole_run_and_leaves_nothing(tmp_path: Path) -> None:
    ticks = itertools.count()
    measured = measure(
        recipe(tmp_path, epochs=50, tokens_per_step=200, max_steps=40),
        tmp_path,
        imports_s=1000.0,
        clock=lambda: float(next(ticks)),
    )
    # By this clock a step takes one second, whatever its size.
    assert measured.num_steps == 40
    assert 2 <= measured.num_measured <= 16
    assert measured.parts["steps"] == pytest.approx(40, rel=0.3)
    assert list(measured.parts) == ["start", "steps", "measuring", "saving", "end"]
    assert all(seconds > 0 for seconds in measured.parts.values())
    assert measured.parts["start"] >= 1000
    assert measured.seconds == sum(measured.parts.values())
    assert measured.peak_bytes > 50 * 2**20
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_without_time_one_step_is_measured(tmp_path: Path) -> None:
    measured = measure(recipe(tmp_path, epochs=50, tokens_per_step=200), tmp_path, limit_s=0.0)
    assert measured.num_measured == 1
    assert measured.seconds > 0


def test_a_prompt_has_no_steps(tmp_path: Path) -> None:
    plain = recipe(tmp_path).to_plain() | {"adapter": {"kind": "none"}}
    measured = measure(Recipe.parse(plain), tmp_path)
    assert (measured.num_steps, measured.parts["steps"]) == (0, 0.0)
    assert measured.seconds > 0


def test_what_would_be_fetched_is_not_measured(tmp_path: Path) -> None:
    assert is_at_hand("builtin:nano")
    assert is_at_hand(str(tmp_path))
    assert not is_at_hand("Qwen/Qwen3-0.6B")
