"""Compiled decoder blocks: the same training, resumed with the same bits."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.project import kamerton, make_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler (g++)"),
]
COMPILED = ("--set", "train.compile=true", "--set", "train.checkpoint_every_s=0")


def losses(folder: Path) -> list[float]:
    lines = (folder / "runs/desk/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [event["loss"] for event in events if event["event"] == "StepDone"]


@pytest.mark.parametrize("form", ["dora=false", "dora=true"])
def test_compiled_blocks_train_the_same(tmp_path: Path, form: str) -> None:
    own = ("--set", "train.max_steps=4", "--set", f"adapter.{form}")
    for name, options in {"plain": (), "compiled": COMPILED}.items():
        recipe = make_project(tmp_path / name)
        kamerton("train", recipe, *own, *options, cwd=tmp_path / name)
    plain, compiled = losses(tmp_path / "plain"), losses(tmp_path / "compiled")
    assert len(plain) == 4
    assert compiled == pytest.approx(plain, rel=1e-4)
