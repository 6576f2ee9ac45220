"""The forecast of a recipe: its own first steps, which leave nothing behind."""

from pathlib import Path

from kamerton.flows.forecast import is_at_hand, measure
from kamerton.flows.recipe import Recipe
from tests.unit.data.files import write_jsonl


def recipe(folder: Path, **train: int) -> Recipe:
    rows = [{"prompt": f"What is number {n}?", "completion": f"It is {n}."} for n in range(24)]
    write_jsonl(folder, rows)
    return Recipe.parse(
        {"name": "x", "base": "builtin:nano", "data": {"train": "rows.jsonl"}, "train": train}
    )


def test_a_run_is_stopped_at_its_own_forecast(tmp_path: Path) -> None:
    measured = measure(recipe(tmp_path, epochs=50, tokens_per_step=200), tmp_path)
    assert measured.num_measured == 4
    assert measured.num_steps > 100
    assert measured.seconds > 0
    assert measured.peak_bytes > 50 * 2**20
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_without_time_one_step_is_measured(tmp_path: Path) -> None:
    measured = measure(recipe(tmp_path, epochs=50, tokens_per_step=200), tmp_path, limit_s=0.0)
    assert measured.num_measured == 1
    assert measured.seconds > 0


def test_what_would_be_fetched_is_not_measured(tmp_path: Path) -> None:
    assert is_at_hand("builtin:nano")
    assert is_at_hand(str(tmp_path))
    assert not is_at_hand("Qwen/Qwen3-0.6B")
