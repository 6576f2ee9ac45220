"""kill -9 at any moment, then the same command: the same bits as an undisturbed run."""

import multiprocessing
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kamerton.store.variants import read_variant
from kamerton.training.sinks import read_events
from tests.e2e.project import command, environment, kamerton, make_project
from tests.e2e.training import train_in

WEIGHTS = Path("variants/desk/adapter_model.safetensors")
EVENTS = Path("runs/desk/events.jsonl")
LONGER = "train.epochs=10"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_project(folder)
    train(folder)
    return folder


def train(folder: Path, *overrides: str) -> None:
    options = [word for override in (LONGER, *overrides) for word in ("--set", override)]
    kamerton("train", "recipe.toml", *options, cwd=folder)


def steps_of(folder: Path) -> list[int]:
    return [e["step"] for e in read_events(folder / EVENTS) if e["event"] == "StepDone"]


def assert_same_result(folder: Path, undisturbed: Path) -> None:
    assert (folder / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()
    ours, theirs = (read_variant(place / "variants/desk") for place in (folder, undisturbed))
    assert ours.manifest.content_hash == theirs.manifest.content_hash
    steps = steps_of(folder)
    assert steps == steps_of(undisturbed), "a resumed log repeats no step and misses none"


def killed_at(
    folder: Path, target: int, moments: random.Random, overrides: tuple[str, ...]
) -> int | None:
    """Train in a forked process and kill it soon after a step, or while it starts.

    Returns:
        How many steps the log holds then; None when the run was faster.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.e2e.training"])
    process = processes.Process(target=train_in, args=(folder, (LONGER, *overrides)))
    process.start()
    while process.is_alive() and len(steps_of(folder)) < target:
        time.sleep(0.005)
    time.sleep(moments.uniform(0, 0.03 if target else 0.3))
    process.kill()
    process.join(timeout=60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return None if process.exitcode == 0 else len(steps_of(folder))


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "checkpoint_every_s"), [(0, 0.0), (1, 0.0), (2, 0.1)])
def test_killed_again_and_again_at_random_moments(
    undisturbed: Path, tmp_path: Path, seed: int, checkpoint_every_s: float
) -> None:
    make_project(tmp_path)
    overrides = (f"train.checkpoint_every_s={checkpoint_every_s}",)
    moments, reached = random.Random(seed), [0]
    for kill in range(7):
        target = reached[-1] + moments.randint(1, 4) if kill else 0
        step = killed_at(tmp_path, target, moments, overrides)
        if step is None:
            break
        reached.append(step)
    assert len(set(reached)) >= 3, "the kills must have met the run at different steps"
    train(tmp_path, *overrides)
    assert_same_result(tmp_path, undisturbed)


def killed_after(folder: Path, wait: float, after_step: int) -> bool:
    """Start the command and kill it some time after a step; False when it was faster."""
    process = subprocess.Popen(
        command("train", "recipe.toml", "--set", LONGER), cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        steps = steps_of(folder)
        if steps and steps[-1] >= after_step:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait(timeout=60)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_a_killed_command_ends_with_the_same_bits(
    undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    make_project(tmp_path)
    kills = sum(
        killed_after(tmp_path, moments.random() * 0.3, moments.randint(1, 5) + 4 * round)
        for round in range(2)
    )
    assert kills >= 1
    train(tmp_path)
    assert_same_result(tmp_path, undisturbed)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path) -> None:
    make_project(tmp_path)
    process = subprocess.Popen(
        command("train", "recipe.toml", "--set", LONGER), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not steps_of(tmp_path):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "hint: the same command goes on from here" in said
    assert len(steps_of(tmp_path)) < len(steps_of(undisturbed))
    train(tmp_path)
    assert_same_result(tmp_path, undisturbed)
