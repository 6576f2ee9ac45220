"""Every way of learning from preferences, on pairs with a rule that can be measured.

    python benchmarks/preferences.py quality --material DIR --work DIR [--task NAME] [--method NAME]
    python benchmarks/preferences.py cost --trl-python .venv-trl/bin/python [--shape NAME]
    python benchmarks/preferences.py table --work DIR

`quality` trains and measures; it keeps what it did in `--work`, goes on after a cut, and may run in
several processes that share the folder, each with one thread unless OMP_NUM_THREADS says otherwise:
more threads than cores wait for each other. `cost` measures time and memory beside TRL: let nothing
else run. `table` writes the result file from what is in `--work`.

All start from one variant that keeps the desk's rules every second time. A method has learning
rates, a factor of about three apart. Each is tried on the training pairs without their last fifth.
The best preference accuracy on that fifth decides (per token: as whole answers, the shorter and
better one is the more probable already), or the best mean reward less beta times the distance
where answers are the model's own; of equals the smallest, and no rate whose answers are more than
20 nats from the start. Then three seeds learn from all pairs. Only then the held-out pairs are
looked at. Given answers are learned for three epochs, also when a rate is tried: what holds for
one epoch may fall apart in three. Own answers are slow: two rates, ten steps to try them, thirty
to learn.

Task `noise` turns shares of the training pairs round, its reward models' too, and tries no rates.
`hh_harmless` has published pairs and no rule: only preferences are measured, and rates are tried on
every third pair; what learns from own answers takes the rate that the desk chose. Every training is
a process of its own, so that peak memory is its own.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import preference_cost
import preference_table
from filelock import FileLock, Timeout
from preference_answers import (
    ask,
    judgements_of,
    preferences_of,
    weights_in_memory,
)
from preference_data import write_data
from preference_methods import REWARD, SEEDS, START, TASKS, Method, recipe_before, recipe_of

from kamerton.core.errors import NotFiniteError
from kamerton.core.events import Event, StepDone
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, find_variant

_FARTHEST_NATS = 20.0
_TRIED_PROMPTS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    quality = verbs.add_parser("quality")
    quality.add_argument("--material", type=Path, help="for hh_harmless: where its pairs are")
    quality.add_argument("--task", choices=TASKS, help="only this one")
    quality.set_defaults(run=measure_quality)
    one = verbs.add_parser("one", help="a single training, by `quality`")
    one.add_argument("--task", choices=TASKS, required=True)
    one.add_argument("--before", help="a variant that others need")
    one.add_argument("--rate", type=float, default=0.0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--tried", action="store_true")
    one.set_defaults(run=lambda arguments: print(json.dumps(run_one(arguments))))
    for each in (quality, one):
        each.add_argument(
            "--method", choices=[*dict.fromkeys(m for t in TASKS.values() for m in t)]
        )
    table = verbs.add_parser("table")
    table.set_defaults(run=lambda arguments: preference_table.write_table(arguments.work))
    for each in (quality, one, table):
        each.add_argument("--work", type=Path, required=True)
    preference_cost.add_to(verbs)
    arguments = parser.parse_args()
    arguments.run(arguments)


def measure_quality(arguments: argparse.Namespace) -> None:
    """Measure what is not known yet."""
    for task in [arguments.task] if arguments.task else TASKS:
        if task == "hh_harmless" and arguments.material is None:
            print("hh_harmless needs --material", file=sys.stderr)
            continue
        folder = arguments.work / task
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            write_data(task, folder, arguments.material)
        for method in [arguments.method] if arguments.method else TASKS[task]:
            if method in TASKS[task]:
                _measure_method(task, method, arguments.work)


def _measure_method(task: str, method: str, work: Path) -> None:
    """Choose a rate and train the seeds; where another process does so, leave it."""
    made = TASKS[task][method]
    folder = work / task / method
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", blocking=False):
            for name in made.needs(task):
                _ensure_variant(task, name, work)
            rate = _chosen_rate(task, method, work)
            for seed in SEEDS:
                if math.isfinite(rate):
                    _known(task, method, work, f"seed-{seed}", "--rate", f"{rate:g}",
                           "--seed", str(seed))  # fmt: skip
    except Timeout:
        return


def _ensure_variant(task: str, name: str, work: Path) -> None:
    """Train what others need; a second process waits for it."""
    folder = work / task / "before"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        known = folder / f"{name}.json"
        if not known.exists():
            known.write_text(json.dumps(_in_a_child(task, work, "--before", name)))
            print(f"{task}: {name} is trained", flush=True)


def _chosen_rate(task: str, method: str, work: Path) -> float:
    """Of the rates that hold, the one with the best score, of equals the smallest."""
    rates = TASKS[task][method].rates
    if len(rates) < 2:
        return rates[0] if rates else 0.0
    tried = {
        rate: _known(task, method, work, f"rate-{rate:g}", "--rate", f"{rate:g}", "--tried")
        for rate in rates
    }
    held = [rate for rate in rates if "failed" not in tried[rate]]
    return max(held, key=lambda rate: (tried[rate]["score"], -rate), default=math.nan)


def _known(task: str, method: str, work: Path, name: str, *options: str) -> dict[str, Any]:
    known = work / task / method / f"{name}.json"
    if not known.exists():
        found = _in_a_child(task, work, "--method", method, *options)
        known.write_text(json.dumps(found, ensure_ascii=False))
        print(f"{task}, {method}, {name}: {preference_table.in_short(found)}", flush=True)
    result: dict[str, Any] = json.loads(known.read_text())
    return result


def _in_a_child(task: str, work: Path, *options: str) -> dict[str, Any]:
    """Train and measure in a process of its own."""
    command = [sys.executable, __file__, "one", "--task", task, "--work", str(work), *options]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True,
        env={"OMP_NUM_THREADS": "1", **os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_one(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a variant and measure it."""
    folder, method = arguments.work / arguments.task, arguments.method
    if arguments.before:
        _, cost = _trained(recipe_before(arguments.task, arguments.before, folder), folder)
        return cost
    made, seed = TASKS[arguments.task][method], arguments.seed
    if not made.rates:
        start = find_variant(START, Workspace(folder).variants)
        return _measured(arguments.task, made, start, folder, seed)
    recipe = recipe_of(arguments.task, method, arguments.rate, seed, arguments.tried, folder)
    try:
        variant, cost = _trained(recipe, folder)
    except NotFiniteError as error:
        return {"failed": error.message}
    if arguments.tried:
        return _scored(arguments.task, made, variant, folder)
    return {
        **cost,
        **_measured(arguments.task, made, variant, folder, seed),
        "rate": arguments.rate,
        "metrics": variant.manifest.metrics,
    }


def _trained(recipe: Recipe, folder: Path) -> tuple[Variant, dict[str, Any]]:
    """Train; time is that of the steps, and memory the process's so far."""
    copies: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, StepDone) and not copies:
            copies.append(weights_in_memory())

    variant = make_variant(recipe, folder, Workspace(folder), watch).variant
    return variant, {
        "seconds": variant.manifest.metrics["train_seconds"],
        "steps": variant.manifest.metrics["steps"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "copies": copies[0] if copies else None,
    }


def _measured(task: str, made: Method, variant: Variant, folder: Path, seed: int) -> dict[str, Any]:
    held = folder / "held.jsonl"
    if made.judges:
        return judgements_of(variant, held)
    if task == "hh_harmless":
        return preferences_of(variant, held)
    variants = Workspace(folder).variants
    judge = find_variant(REWARD, variants) if task == "desk" else None
    return ask(variant, find_variant(START, variants), judge, held, seed)


def _scored(task: str, made: Method, variant: Variant, folder: Path) -> dict[str, Any]:
    """What a rate is chosen by, on pairs that are neither learned from nor held out."""
    tune = folder / "tune.jsonl"
    if made.judges:
        judged = judgements_of(variant, tune)["judged"]
        return {"score": sum(p > 0.5 for p in judged) / len(judged)}
    if task == "hh_harmless":
        return {"score": _accuracy(preferences_of(variant, tune))}
    start = find_variant(START, Workspace(folder).variants)
    found = ask(variant, start, None, tune, 0, _TRIED_PROMPTS)
    score = _accuracy(found)
    if made.online:
        score = -variant.manifest.metrics["holdout_loss"]
    return _within(found, {"score": score, "kl": found["kl"]})


def _accuracy(found: Mapping[str, Any]) -> float:
    return float(preference_table.preferred(found, per_token=True).mean())


def _within(found: Mapping[str, Any], scored: Mapping[str, Any]) -> dict[str, Any]:
    if found["kl"] <= _FARTHEST_NATS:
        return dict(scored)
    return {**scored, "failed": f"answers are {found['kl']:.1f} nats from the start"}


if __name__ == "__main__":
    main()
