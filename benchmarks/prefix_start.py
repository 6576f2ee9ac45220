"""Where a prefix should begin: as a text, as zeros or as noise, with LoRA beside it.

    python benchmarks/prefix_start.py measure --material DIR --work DIR
    python benchmarks/prefix_start.py table --work DIR

Two bases of `--material` that learned to read English stories, and the bundled one, rewrite
sentences (`positive_frames`). Each beginning has the same examples, passes, tokens and number of
learning rates; the loss on examples of the training split that nobody learns from chooses the rate.
Then three seeds, each with other examples, are measured on the published development split.
`measure` keeps what it did in `--work` and goes on after a cut.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import record

from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace

SEEDS = (0, 1, 2)
EPOCHS = {32: 12, 256: 4}
"""Passes over so many examples."""
NUM_TUNE = 150
_TUNED, _TESTED = "tune", "test"
_LONGEST = 150
"""Characters of both sides: one base reads characters, and sees 256."""
_PREFIX_RATES, _LORA_RATES = (0.01, 0.03, 0.1, 0.3, 1.0), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def _prefix(init: str) -> tuple[dict[str, Any], tuple[float, ...]]:
    return {"kind": "prefix", "num_virtual_tokens": 32, "init": init}, _PREFIX_RATES


METHODS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "prefix, text": _prefix("text"),
    "prefix, zero": _prefix("zero"),
    "prefix, random": _prefix("random"),
    "LoRA": ({"kind": "lora"}, _LORA_RATES),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    measured = verbs.add_parser("measure")
    measured.add_argument("--material", type=Path, required=True)
    measured.set_defaults(run=lambda arguments: measure(arguments.material, arguments.work))
    table = verbs.add_parser("table")
    table.set_defaults(run=lambda arguments: write_table(arguments.work))
    for each in (measured, table):
        each.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.run(arguments)


def measure(material: Path, work: Path) -> None:
    """Measure what is not known yet."""
    work.mkdir(parents=True, exist_ok=True)
    _write_data(material / "data", work)
    models = {path.name: str(path) for path in sorted((material / "models").iterdir())}
    for name, base in {**models, "nano": "builtin:nano"}.items():
        for count in EPOCHS:
            for method, (_, rates) in METHODS.items():
                tuned = {
                    rate: _known(work, name, base, count, method, rate, _TUNED, 0) for rate in rates
                }
                rate = min(tuned, key=lambda rate: tuned[rate]["holdout_loss"])
                for seed in SEEDS:
                    _known(work, name, base, count, method, rate, _TESTED, seed)


def _write_data(data: Path, work: Path) -> None:
    train, tested = (
        _rows(data / f"positive_frames.{split}.jsonl.gz") for split in ("train", "dev")
    )
    random.Random(0).shuffle(train)
    _write(work / f"{_TUNED}.jsonl", train[:NUM_TUNE])
    _write(work / f"{_TESTED}.jsonl", tested)
    for seed in SEEDS:
        for count in EPOCHS:
            first = NUM_TUNE + seed * max(EPOCHS)
            _write(work / f"train-{count}-{seed}.jsonl", train[first : first + count])


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [
            {side: json.loads(line)[side] for side in ("prompt", "completion")} for line in lines
        ]
    return [row for row in rows if sum(map(len, row.values())) <= _LONGEST]


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def _known(
    work: Path, name: str, base: str, count: int, method: str, rate: float, held: str, seed: int
) -> dict[str, float]:
    """Train and measure, unless that was done."""
    run = _run(name, count, method, rate, held, seed)
    known = work / f"{run}.json"
    if not known.exists():
        recipe = Recipe.parse(
            {
                "name": run,
                "base": {"id": base, "dtype": "float32"},
                "data": {
                    "train": str(work / f"train-{count}-{seed}.jsonl"),
                    "holdout": str(work / f"{held}.jsonl"),
                },
                "adapter": METHODS[method][0],
                "train": {
                    "epochs": EPOCHS[count], "learning_rate": rate, "seed": seed, "keep": "last",
                    "tokens_per_step": 1024, "evaluate_every": 10**6,
                },
            }
        )  # fmt: skip
        made = make_variant(recipe, work, Workspace(work), lambda event: None, fresh=True)
        metrics = made.variant.manifest.metrics
        known.write_text(json.dumps(metrics))
        print(f"{run}: {metrics['holdout_loss']:.3f}", flush=True)
    found: dict[str, float] = json.loads(known.read_text())
    return found


def _run(name: str, count: int, method: str, rate: float, held: str, seed: int) -> str:
    return re.sub(r"\W+", "-", f"{name} {count} {method} {rate:g} {held} {seed}").lower()


def write_table(work: Path) -> None:
    """Write what is known."""
    lines = [
        "| base | examples | base alone | " + " | ".join(METHODS) + " |",
        "| --- |" + " ---: |" * (2 + len(METHODS)),
    ]
    rates = []
    for name in ("babyllama-tok361", "stories260K", "nano"):
        for count in EPOCHS:
            cells, alone = [], "not measured"
            for method in METHODS:
                tuned = {
                    rate: found
                    for rate in METHODS[method][1]
                    if (found := _read(work, name, count, method, rate, _TUNED, 0))
                }
                best = min(tuned, key=lambda rate: tuned[rate]["holdout_loss"], default=0.0)
                tested = (_read(work, name, count, method, best, _TESTED, one) for one in SEEDS)
                runs = [found for found in tested if found]
                if not runs:
                    cells.append("not measured")
                    continue
                losses = [metrics["holdout_loss"] for metrics in runs]
                alone = f"{runs[0]['holdout_loss_base']:.3f}"
                cells.append(f"{fmean(losses):.3f}<br>{min(losses):.3f} to {max(losses):.3f}")
                told = [f"{rate:g} {found['holdout_loss']:.3f}" for rate, found in tuned.items()]
                rates.append(f"- {name}, {count}, {method}: {', '.join(told)}")
            lines.append(f"| {name} | {count} | {alone} | {' | '.join(cells)} |")
    text = (
        f"positive_frames, rows of at most {_LONGEST} characters; loss in nats a token on the "
        "published development split, lower is better: the mean of three seeds with other examples "
        "each, and their range. A prefix has 32 virtual tokens; a text is the first training "
        f"example; noise is standard normal, as PEFT begins. Of 32 examples {EPOCHS[32]} epochs, "
        f"of 256 {EPOCHS[256]}. Compare within a row: tokens differ between bases.\n"
    )
    record.write(
        "prefix_start",
        record.header("Where a prefix begins")
        + "\n".join([text, *lines, "\nRates tried, with the loss that chose:\n", *rates])
        + "\n",
    )


def _read(
    work: Path, name: str, count: int, method: str, rate: float, held: str, seed: int
) -> dict[str, float]:
    """What a run found; nothing where it was not made."""
    known = work / f"{_run(name, count, method, rate, held, seed)}.json"
    found: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    return found


if __name__ == "__main__":
    main()
