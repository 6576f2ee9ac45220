"""Preferences in `defaults.py`: the desk's English pairs, after a fine-tuned start."""

import json
import random
from pathlib import Path
from typing import Any

from defaults_cells import Bench, Cell, quiet, rounded

import kamerton
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.training.defaults import auto_learning_rate

__all__ = ["DEV", "FARTHEST_NATS", "REPORT", "chosen_rate", "default_rate", "measure_pairs"]

DEV, REPORT = "pairs, dev", "pairs, report"
FARTHEST_NATS = 20.0
"""Answers that are farther from the start are no longer its own."""
_DEV_SHARE = 0.25
_METHOD, _START = "DPO", "start"


def write_pairs(folder: Path) -> None:
    """Write the English rows: for the start, to learn from, to choose on, to report on.

    Args:
        folder: Receives them; what is there stays.
    """
    if (folder / "report.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    desk = Path(kamerton.__file__).parent / "demo_desk"
    pairs = _english(desk / "pairs.jsonl")
    prompts = sorted({json.dumps(row["prompt"]) for row in pairs})
    random.Random(0).shuffle(prompts)
    aside = set(prompts[: round(len(prompts) * _DEV_SHARE)])
    parts = {
        "mixed": _english(desk / "mixed.jsonl"),
        "train": [row for row in pairs if json.dumps(row["prompt"]) not in aside],
        "dev": [row for row in pairs if json.dumps(row["prompt"]) in aside],
        "report": _english(desk / "pairs_holdout.jsonl"),
    }
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _english(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if json.dumps(row, ensure_ascii=False).isascii()]


def measure_pairs(bench: Bench, base: str, factors: tuple[float, ...]) -> None:
    """Try multiples of DPO's default rate, then report on it and on the best.

    Args:
        bench: Keeps the cells.
        base: Of `BASES`.
        factors: 1 among them.
    """
    default = default_rate(bench, base)
    rates = [rounded(default * factor) for factor in factors]
    for rate in rates:
        _run(bench, base, rate, DEV)
    for rate in dict.fromkeys((default, chosen_rate(bench, base))):
        _run(bench, base, rate, REPORT)


def default_rate(bench: Bench, base: str) -> float:
    """Say what "auto" gives.

    Args:
        bench: Knows the bases.
        base: Of `BASES`.

    Returns:
        The rate.
    """
    return auto_learning_rate(LoraSettings(), "dpo", *bench.width(base))[0]


def chosen_rate(bench: Bench, base: str) -> float:
    """Choose the rate of the smallest loss among those that stay near the start.

    Args:
        bench: With what was measured.
        base: Of `BASES`.

    Returns:
        The rate.
    """
    found = bench.cells.rates(base, DEV, _METHOD)
    near = {rate: one for rate, one in found.items() if one["distance"] <= FARTHEST_NATS}
    if not near:
        return min(found)
    return min(near, key=lambda rate: float(near[rate]["dev"]))


def _run(bench: Bench, base: str, rate: float, task: str) -> None:
    cell = Cell(base, task, _METHOD, rate)
    if cell in bench.cells.known:
        return
    folder = bench.work / "pairs"
    write_pairs(folder)
    workspace = Workspace(folder / base)
    common = {"base": {"id": bench.id_of(base)}, "evaluate": {"max_tokens": 48}}
    start = {
        "name": _START, **common, "data": {"train": str(folder / "mixed.jsonl"), "holdout": 0.0},
    }  # fmt: skip
    make_variant(Recipe.parse(start), folder, workspace, quiet)
    held = "dev" if task == DEV else "report"
    recipe = {
        "name": f"dpo-{rate:g}-{held}", **common, "start": _START,
        "data": {"train": str(folder / "train.jsonl"), "holdout": str(folder / f"{held}.jsonl")},
        "objective": {"kind": "dpo"},
        "train": {"learning_rate": rate, "keep": "last", "evaluate_every": 10**6},
    }  # fmt: skip
    metrics = make_variant(Recipe.parse(recipe), folder, workspace, quiet).variant.manifest.metrics
    bench.cells.add(
        cell,
        {
            "dev": metrics["holdout_loss"],
            "accuracy": metrics["holdout_reward_accuracy"],
            "distance": metrics["holdout_distance"],
            "steps": metrics["steps"],
        },
    )
