"""A small project on disk, and the command line as a process of its own."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
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

[generation]
max_new_tokens = 12

[evaluate]
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


# Importing PyTorch takes seconds and is done once: children are forked from a process that has it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["torch", "transformers", "kamerton.flows.train", "tests.e2e.project"]
)


def kamerton(*arguments: Any, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own and require its exit status."""
    given = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as name:
        written = [Path(name) / "stdout", Path(name) / "stderr"]
        child = _FORKS.Process(target=_run, args=(given, cwd, written, environment()))
        child.start()
        child.join(600)
        if child.is_alive():
            child.kill()
        child.join()
        stdout, stderr = (path.read_text(encoding="utf-8") for path in written)
    assert child.exitcode == status, f"{arguments}\n{stdout}\n{stderr}"
    return subprocess.CompletedProcess(given, child.exitcode, stdout, stderr)


def _run(arguments: list[str], cwd: Path, written: list[Path], env: dict[str, str]) -> None:
    for number, path in enumerate([Path(os.devnull), *written]):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        for number in range(3)
    )
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv = ["kamerton", *arguments]
    from kamerton.cli.main import run

    run()
