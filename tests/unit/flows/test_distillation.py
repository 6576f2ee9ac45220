"""Distillation over the bundled base: a prompt's effect learned without the prompt."""

import json
from pathlib import Path

import pytest

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.events import Event, Notice
from kamerton.core.files import write_atomically
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.variants.export import export_variant

ROWS = [
    {"prompt": f"What is in box {number}?", "completion": f"In box {number} is a {thing}."}
    for number, thing in enumerate(["lamp", "cup", "rope", "key"] * 5)
]


def recipe(name: str, **sections: object) -> Recipe:
    plain = {"name": name, "base": "builtin:nano", "data": {"train": "rows.jsonl", "holdout": 0.2}}
    return Recipe.parse({**plain, **sections}, source="test")


def distilled(**objective: object) -> Recipe:
    return recipe(
        "student",
        adapter={"kind": "lora", "rank": 4},
        objective={"kind": "distillation", "teacher": "teacher", "hard": 0.0, **objective},
        train={"epochs": 3, "learning_rate": 2e-3, "tokens_per_step": 256},
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    made = Workspace(tmp_path)
    prompt = {"system": "Answer as a house would.", "demonstrations": 4}
    teacher = recipe("teacher", adapter={"kind": "none"}, prompt=prompt)
    make_variant(teacher, tmp_path, made, lambda event: None)
    return made


def test_a_student_learns_what_a_prompt_does(workspace: Workspace) -> None:
    said: list[Event] = []
    made = make_variant(distilled(), workspace.root, workspace, said.append)
    assert made.outcome is not None
    assert made.outcome.metrics is not None
    assert made.outcome.holdout_loss == pytest.approx(made.outcome.metrics["divergence"])
    # Of the base without the prompt, before the first step.
    first = next(one for one in said if type(one).__name__ == "HoldoutMeasured")
    assert made.outcome.holdout_loss < 0.7 * first.loss  # type: ignore[attr-defined]
    teacher = json.loads((workspace.variants / "teacher" / "variant.json").read_text("utf-8"))
    assert made.variant.manifest.parents == [teacher["content_hash"]]


def test_what_the_teacher_said_is_kept(workspace: Workspace) -> None:
    make_variant(distilled(), workspace.root, workspace, lambda event: None)
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.message)

    again = distilled().model_copy(update={"name": "another"})
    make_variant(again, workspace.root, workspace, listen)
    assert sum("the teacher was asked before" in one for one in said) == 2


@pytest.mark.parametrize("name", ["", "student"])
def test_a_teacher_must_be_named(workspace: Workspace, name: str) -> None:
    with pytest.raises(SettingsError, match="objective.teacher"):
        make_variant(distilled(teacher=name), workspace.root, workspace, lambda event: None)


def test_a_teacher_of_another_tokenizer_is_refused(workspace: Workspace) -> None:
    path = workspace.variants / "teacher" / "variant.json"
    plain = json.loads(path.read_text("utf-8"))
    write_atomically(path, json.dumps(plain).replace(plain["base"]["tokenizer_hash"], "0" * 64))
    with pytest.raises(VariantError, match="another tokenizer|changed|hash"):
        make_variant(distilled(), workspace.root, workspace, lambda event: None)


def test_a_cut_base_learns_from_the_whole_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace.root / "cache"))
    small = recipe(
        "student",
        base={"id": "builtin:nano", "layers": "0,3,5", "dtype": "float32"},
        adapter={"kind": "full", "parts": ["all"]},
        objective={"kind": "distillation", "teacher": "teacher"},
        train={"epochs": 2, "tokens_per_step": 256},
    )
    made = make_variant(small, workspace.root, workspace, lambda event: None)
    assert made.variant.manifest.base.id == "builtin:nano#layers=0,3,5"
    assert made.outcome is not None
    assert made.outcome.holdout_loss is not None
    folder = workspace.root / "merged"
    exported = export_variant(made.variant, folder, "merged")
    assert exported.same_top == 1
    assert json.loads((folder / "config.json").read_text("utf-8"))["num_hidden_layers"] == 3
