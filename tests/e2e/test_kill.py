"""kill -9 at any moment, then the same command: the same bits as an undisturbed run."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kamerton.store.variants import read_variant
from kamerton.training.sinks import read_events
from tests.e2e.project import command, environment, kamerton, make_project

WEIGHTS = Path("variants/desk/adapter_model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = make_project(folder)
    kamerton("train", recipe, cwd=folder)
    return folder


def killed_after(folder: Path, recipe: Path, wait: float, after_step: int) -> bool:
    """Start training and kill it some time after a step; False when it was faster."""
    process = subprocess.Popen(
        command("train", str(recipe)), cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    events = folder / "runs" / "desk" / "events.jsonl"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        steps = [e["step"] for e in read_events(events) if e["event"] == "StepDone"]
        if steps and steps[-1] >= after_step:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait(timeout=60)
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_ends_with_the_same_bits(undisturbed: Path, tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    recipe = make_project(tmp_path)
    kills = sum(
        killed_after(tmp_path, recipe, moments.random() * 0.3, moments.randint(1, 5) + 4 * round)
        for round in range(2)
    )
    assert kills >= 1
    kamerton("train", recipe, cwd=tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()
    ours, theirs = (
        read_variant(tmp_path / "variants/desk"),
        read_variant(undisturbed / "variants/desk"),
    )
    assert ours.manifest.content_hash == theirs.manifest.content_hash
    steps = [
        event["step"]
        for event in read_events(tmp_path / "runs/desk/events.jsonl")
        if event["event"] == "StepDone"
    ]
    assert steps == sorted(set(steps)), "a resumed log repeats no step"


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path) -> None:
    recipe = make_project(tmp_path)
    process = subprocess.Popen(
        command("train", str(recipe)), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    events = tmp_path / "runs" / "desk" / "events.jsonl"
    while process.poll() is None and not any(
        event["event"] == "StepDone" for event in read_events(events)
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "hint: the same command goes on from here" in said
    kamerton("train", recipe, cwd=tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()
