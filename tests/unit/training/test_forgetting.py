"""What a base forgot is said when it is much."""

from pathlib import Path

import pytest

from kamerton.core.events import Event, Notice
from kamerton.flows import train
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.training.forgetting import say_forgotten
from tests.e2e.project import make_project


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(3.7, 6.9, True), (3.7, 4.2, False), (3.7, float("nan"), True), (None, 6.9, False)],
)
def test_only_a_large_rise_is_said(before, after, told) -> None:
    seen: list[Notice] = []
    say_forgotten("desk", before, after, seen.append)
    assert [notice.level for notice in seen] == ["warning"] * told
    assert before is None or all(f"from {before:.2f} to {after:.2f}" in n.message for n in seen)


def test_training_compares_the_variant_with_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.read(make_project(tmp_path, num_rows=12), ("train.max_steps=2",))
    asked: list[tuple[float | None, float | None]] = []

    def remember(name: str, before: float, after: float, sink: object) -> None:
        asked.append((before, after))

    monkeypatch.setattr(train, "say_forgotten", remember)
    events: list[Event] = []
    make_variant(recipe, tmp_path, Workspace(tmp_path), events.append)
    ((before, after),) = asked
    assert 1 < before < 8
    assert before != after
    assert abs(after - before) < 0.5
