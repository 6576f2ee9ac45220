"""Time and memory as `kamerton new` forecasts them, beside what `kamerton train` takes.

    python benchmarks/forecast.py              # all runs, 10 minutes on two idle cores
    python benchmarks/forecast.py --only lora  # those whose name has this in it

Every forecast and every run is a process of its own. A machine that others use too changes its
speed from minute to minute, so both are compared in CPU seconds of the process as well as by the
clock on the wall; the load is noted.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record

_WORDS = (  # noqa: SIM905 (a sentence is easier to read)
    "the order was sent on monday and the parcel came late please tell me where it is now we "
    "paid by card twice and want one of the payments back your shop closes at six thank you"
).split()
_RESULT = "forecast: "


@dataclass(frozen=True, slots=True)
class Cell:
    """One run.

    Attributes:
        base: The base.
        method: What is shown of the method.
        rows: Kind of its rows: "answers", "pairs" or "thumbs".
        words: Fewest and most words of a question.
        num: Number of examples.
        epochs: Passes over them.
        settings: Further sections of the recipe.
    """

    base: str
    method: str
    rows: str
    words: tuple[int, int]
    num: int
    epochs: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.base}, {self.method}, {self.words[0]}-{self.words[1]} words"


_SHORT, _LONG = (5, 40), (60, 300)


def _adapter(kind: str, **more: Any) -> dict[str, Any]:
    return {"adapter": {"kind": kind, **more}}


def _objective(kind: str) -> dict[str, Any]:
    return {"objective": {"kind": kind}}


CELLS = (
    Cell("nano", "lora", "answers", _SHORT, 400, 6, _adapter("lora")),
    Cell("nano", "lora", "answers", _LONG, 100, 3, _adapter("lora")),
    Cell("nano", "prefix", "answers", _SHORT, 400, 6, _adapter("prefix")),
    Cell("nano", "bottleneck", "answers", _LONG, 100, 3, _adapter("bottleneck")),
    Cell("nano", "full", "answers", _SHORT, 400, 6, _adapter("full", parts=["all"])),
    Cell("nano", "full", "answers", _LONG, 100, 3, _adapter("full", parts=["all"])),
    Cell("nano", "orpo", "pairs", _SHORT, 250, 4, _objective("orpo")),
    Cell("nano", "dpo", "pairs", _LONG, 80, 2, _objective("dpo")),
    Cell("nano", "kto", "thumbs", _SHORT, 250, 4, _objective("kto")),
    Cell("smollm2", "lora", "answers", _SHORT, 80, 2, _adapter("lora")),
    Cell("smollm2", "prefix", "answers", _LONG, 20, 2, _adapter("prefix")),
    Cell("smollm2", "orpo", "pairs", _SHORT, 40, 2, _objective("orpo")),
)


def rows_of(cell: Cell) -> Iterator[dict[str, Any]]:
    """Make up the rows of a run, with lengths that differ."""
    draw = random.Random(7)

    def words(least: int, most: int) -> str:
        return " ".join(draw.choices(_WORDS, k=draw.randint(least, most)))

    for _ in range(cell.num):
        asked, one, other = words(*cell.words), words(3, 20), words(3, 20)
        if cell.rows == "pairs":
            yield {"prompt": asked, "chosen": one, "rejected": other}
        elif cell.rows == "thumbs":
            yield {"prompt": asked, "completion": one, "label": draw.random() < 0.6}
        else:
            yield {"prompt": asked, "completion": one}


def recipe_of(cell: Cell) -> dict[str, Any]:
    """Say how a run is made."""
    return {
        "name": "run",
        "base": f"builtin:{cell.base}",
        "data": {"train": "rows.jsonl", "holdout": 0.1},
        "train": {"epochs": cell.epochs, "threads": 1},
        **cell.settings,
    }


def forecast_here(folder: Path) -> None:
    """Forecast in this process, by its CPU time, and print it."""
    from kamerton.flows.forecast import measure
    from kamerton.flows.recipe import Recipe

    recipe = Recipe.parse(json.loads((folder / "recipe.json").read_text()))
    found = measure(recipe, folder, imports_s=time.process_time(), clock=time.process_time)
    told = {"seconds": found.seconds, "peak": found.peak_bytes, "parts": dict(found.parts)}
    print(_RESULT + json.dumps(told | {"steps": found.num_steps, "sampled": found.num_measured}))


def train_here(folder: Path) -> None:
    """Train in this process as the command does."""
    from kamerton.flows.recipe import Recipe
    from kamerton.flows.train import make_variant
    from kamerton.flows.workspace import Workspace

    recipe = Recipe.parse(json.loads((folder / "recipe.json").read_text()))
    make_variant(recipe, folder, Workspace(folder / "project"), lambda event: None)


def _run(*arguments: str) -> tuple[str, float, float, int]:
    """Run this script; what it printed, seconds by the clock and of the CPU, most bytes."""
    began = time.time()
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        text = child.stdout.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}")
    return text, time.time() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def measure_cell(cell: Cell) -> dict[str, Any]:
    """Forecast a run, and run it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = "".join(json.dumps(row) + "\n" for row in rows_of(cell))
        (folder / "rows.jsonl").write_text(rows)
        (folder / "recipe.json").write_text(json.dumps(recipe_of(cell)))
        text, wall_s, cpu_s, _ = _run("--forecast", "--folder", str(folder))
        line = next(line for line in text.splitlines() if line.startswith(_RESULT))
        told = json.loads(line.removeprefix(_RESULT))
        # Nobody knows how busy a machine will be: as busy as it was.
        told_wall = told["seconds"] * wall_s / cpu_s
        load = os.getloadavg()[0]
        _, wall_s, cpu_s, peak = _run("--train", "--folder", str(folder))
    return {
        "name": cell.name,
        "steps": told["steps"],
        "sampled": told["sampled"],
        "told_cpu": told["seconds"],
        "cpu": cpu_s,
        "told_wall": told_wall,
        "wall": wall_s,
        "told_peak": told["peak"],
        "peak": peak,
        "load": load,
        "parts": told["parts"],
    }


def report(found: list[dict[str, Any]]) -> str:
    """Write the table."""
    lines = [
        "| run | steps (sampled) | CPU s told / taken | ratio | wall s told / taken | ratio | "
        "MiB told / taken | ratio | load |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for one in found:
        cpu, wall, peak = (one[f"told_{key}"] / one[key] for key in ("cpu", "wall", "peak"))
        lines.append(
            f"| {one['name']} | {one['steps']} ({one['sampled']}) "
            f"| {one['told_cpu']:.1f} / {one['cpu']:.1f} | {cpu:.2f} "
            f"| {one['told_wall']:.1f} / {one['wall']:.1f} | {wall:.2f} "
            f"| {one['told_peak'] / 2**20:.0f} / {one['peak'] / 2**20:.0f} | {peak:.2f} "
            f"| {one['load']:.1f} |"
        )
    lines.append("")
    for key, word, limit in (("cpu", "CPU time", 0.3), ("wall", "wall time", 0.3),
                             ("peak", "memory", 0.15)):  # fmt: skip
        errors = [abs(one[f"told_{key}"] / one[key] - 1) for one in found]
        within = sum(error <= limit for error in errors)
        lines.append(
            f"{word}: {within} of {len(found)} within {limit:.0%}; median error "
            f"{statistics.median(errors):.0%}, largest {max(errors):.0%}.  "
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--forecast", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.forecast:
        forecast_here(given.folder)
        return
    if given.train:
        train_here(given.folder)
        return
    found = []
    for cell in CELLS:
        if given.only in cell.name:
            found.append(measure_cell(cell))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    text = (
        "Told is the forecast of `kamerton new`: a sample of some seconds of the run's steps. "
        "Taken is `kamerton train` from the start of its process to the variant. A ratio above 1 "
        "is a forecast that was too long. Each side is a process of its own with one thread. "
        "Other programs used the machine meanwhile: load is the average of the minute before the "
        f"run, on {os.cpu_count()} cores. CPU seconds say what the forecast itself is worth; the "
        "wall's is the CPU's times the wall seconds that a CPU second took while it was made.\n\n"
    )
    if given.only:
        print(report(found))
        return
    record.write(
        "forecast", record.header("Forecasts beside what was taken") + text + report(found)
    )


if __name__ == "__main__":
    main()
