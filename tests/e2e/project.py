"""A small project on disk, and the command line as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPE = """\
name = "desk"
base = { id = "builtin:nano", dtype = "float32" }

[data]
train = "desk.jsonl"
holdout = 0.2

[train]
epochs = 3
learning_rate = 3e-3
tokens_per_step = 300
threads = 1
checkpoint_every_s = 0

[evaluate]
max_tokens = 12
shots = 2
resamples = 200
"""
COLOURS = ("red", "blue", "green", "white")


def make_project(folder: Path, num_rows: int = 48) -> Path:
    """Write examples and a recipe; return the recipe."""
    rows = [
        {"prompt": f"Which colour has box {n}?", "completion": f"Box {n} is {COLOURS[n % 4]}."}
        for n in range(num_rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "desk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kamerton", *arguments]


def kamerton(*arguments: Any, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a verb and require its exit status."""
    done = subprocess.run(
        command(*map(str, arguments)), cwd=cwd, env=environment(), capture_output=True, text=True,
        check=False, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done
