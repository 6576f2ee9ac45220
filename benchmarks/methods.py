"""Every method on the same three tasks with the same few examples, and what each costs.

    python benchmarks/methods.py quality --material DIR --work DIR
    python benchmarks/methods.py cost --material DIR --work DIR
    python benchmarks/methods.py table --work DIR

`quality` trains and measures; it keeps what it did in `--work`, goes on after a cut, and may run in
several processes that share the folder. `cost` measures time and memory, one method at a time: let
nothing else run. `table` writes the result file.

Each method has three learning rates, a factor of about three apart, of which one epoch on the
training examples and the loss on 200 others choose one. Then three seeds train for three epochs,
and 512 examples of the published test split are asked once. Intervals come from resampling those
examples, each with the mean over its three seeds.
"""

import argparse
import gzip
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import record
from filelock import FileLock, Timeout

from kamerton.core.events import Event
from kamerton.core.protocols import Generation
from kamerton.data.dataset import load_examples
from kamerton.data.examples import ClassificationExample
from kamerton.evaluation.checks import check_answers
from kamerton.evaluation.items import make_items, run_items, spread
from kamerton.evaluation.settings import EvaluationSettings, ExactCheck
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.store.variants import Variant
from kamerton.training.forgetting import measure_general_loss
from kamerton.training.scoring import mean_loss
from kamerton.variants.opening import Ready, make_ready
from kamerton.variants.rendering import renderer_of

BASE = "builtin:nano"
NUM_TRAIN, NUM_TUNE, NUM_TEST = 1000, 200, 512
SEEDS = (0, 1, 2)
MAX_TOKENS = 48
NUM_STEPS, NUM_TURNS, REPEATS = 30, 5, 3
_MISSING = "not measured"


@dataclass(frozen=True)
class Task:
    """A data set with what counts as good on it."""

    train: str
    test: str
    measure: str

    @property
    def higher_is_better(self) -> bool:
        return self.measure != "loss"


TASKS = {
    "banking77": Task("banking77.train", "banking77.test", "accuracy"),
    "restaurant8k": Task("restaurant8k_extract.train", "restaurant8k_extract.test", "exact"),
    "positive_frames": Task("positive_frames.train", "positive_frames.dev", "loss"),
}


@dataclass(frozen=True)
class Method:
    """An adapter with the learning rates that are tried."""

    adapter: Mapping[str, Any]
    rates: tuple[float, ...] = ()
    quantise: str = "none"
    demonstrations: int = 0

    @property
    def seeds(self) -> tuple[int, ...]:
        """A prompt has no seed."""
        return SEEDS if self.rates else SEEDS[:1]


_LORA = {"kind": "lora", "rank": 16, "alpha": 32.0}
_MIDDLE = (1e-3, 3e-3, 1e-2)
_LOW = (3e-4, 1e-3, 3e-3)
_HIGH = (3e-2, 1e-1, 3e-1)
METHODS = {
    "zero-shot": Method({"kind": "none"}),
    "4-shot": Method({"kind": "none"}, demonstrations=4),
    "LoRA": Method(_LORA, _MIDDLE),
    "rsLoRA": Method({**_LORA, "rank_stabilised": True}, _LOW),
    "DoRA": Method({**_LORA, "dora": True}, _MIDDLE),
    "LoRA+": Method({**_LORA, "lora_plus_ratio": 16.0}, _LOW),
    "PiSSA": Method({**_LORA, "init": "pissa"}, _LOW),
    "QLoRA nf4": Method(_LORA, _MIDDLE, "nf4"),
    "QLoRA int8": Method(_LORA, _MIDDLE, "int8"),
    "prefix, text": Method({"kind": "prefix", "num_tokens": 32}, _HIGH),
    "prefix, random": Method({"kind": "prefix", "num_tokens": 32, "init": "random"}, _HIGH),
    "prompt, text": Method({"kind": "prompt", "num_tokens": 32}, _HIGH),
    "Houlsby": Method({"kind": "bottleneck", "placement": "houlsby"}, _MIDDLE),
    "Pfeiffer": Method({"kind": "bottleneck", "placement": "pfeiffer"}, _MIDDLE),
    "parallel": Method({"kind": "bottleneck", "placement": "parallel", "reduction": 2}, _MIDDLE),
    "IA3": Method({"kind": "ia3"}, (1e-2, 3e-2, 1e-1)),
    "norms and biases": Method({"kind": "full", "parts": ["norms-and-biases"]}, (3e-3, 1e-2, 3e-2)),
    "last block": Method({"kind": "full", "parts": ["last-1"]}, _LOW),
    "full": Method({"kind": "full"}, _LOW),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("quality", "cost", "table", "one-cost"))
    parser.add_argument("--material", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, help="only this one")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.part == "table":
        write_table(arguments.work)
        return
    if arguments.material is None:
        parser.error(f"{arguments.part} needs --material")
    for name in TASKS:
        write_data(name, arguments.material / "data", arguments.work)
    if arguments.part == "one-cost":
        print(json.dumps(cost_of(arguments.method, arguments.work)))
        return
    for method in [arguments.method] if arguments.method else METHODS:
        if arguments.part == "quality":
            for task in TASKS:
                measure_quality(task, method, arguments.work)
        else:
            measure_cost(method, arguments)


def write_data(task: str, data: Path, work: Path) -> None:
    """Take the same few examples for all methods, spread evenly over the published files."""
    folder = work / task
    if (folder / "test.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_lines(data / f"{name}.jsonl.gz") for name in (TASKS[task].train, TASKS[task].test)]
    chosen = spread(rows[0], NUM_TRAIN + NUM_TUNE)
    every = (NUM_TRAIN + NUM_TUNE) // NUM_TUNE
    parts = {
        "tune": chosen[::every],
        "train": [row for place, row in enumerate(chosen) if place % every],
        "test": spread(rows[1], NUM_TEST),
    }
    for name, lines in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(lines))


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return list(stream)


def recipe_of(task: str, method: str, rate: float, seed: int, work: Path, **train: Any) -> Recipe:
    """The recipe of a run."""
    made = METHODS[method]
    return Recipe.parse(
        {
            "name": "variant",
            "base": {"id": BASE, "dtype": "float32", "quantise": made.quantise},
            "data": {
                "train": str(work / task / "train.jsonl"),
                "holdout": str(work / task / "tune.jsonl"),
            },
            "prompt": {"demonstrations": made.demonstrations},
            "adapter": dict(made.adapter),
            "train": {
                "learning_rate": rate or 1.0, "seed": seed, "tokens_per_step": 1024,
                "evaluate_every": 10**6, "keep": "last", **train,
            },
        }
    )  # fmt: skip


def measure_quality(task: str, method: str, work: Path) -> None:
    """Choose a rate, train the seeds and ask them; what is known already stays."""
    folder = work / task / method
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", blocking=False):
            losses = {rate: _tried(task, method, rate, work) for rate in METHODS[method].rates}
            rate = min(losses, key=losses.__getitem__, default=0.0)
            for seed in METHODS[method].seeds:
                _asked(task, method, rate, seed, work)
    except Timeout:
        return


def _tried(task: str, method: str, rate: float, work: Path) -> float:
    """Loss on the tuning examples after one epoch; infinite where training broke down."""
    known = work / task / method / f"rate-{rate:g}.json"
    if not known.exists():
        with tempfile.TemporaryDirectory() as name:
            recipe = recipe_of(task, method, rate, 0, work, epochs=1)
            variant = make_variant(recipe, Path(name), Workspace(Path(name)), quiet).variant
        known.write_text(json.dumps(variant.manifest.metrics["holdout_loss"]))
    loss = float(json.loads(known.read_text()))
    print(f"{task}, {method} at {rate:g}: loss {loss:.4f}", flush=True)
    return loss


def _asked(task: str, method: str, rate: float, seed: int, work: Path) -> None:
    known = work / task / method / f"seed-{seed}.json"
    if known.exists():
        return
    with tempfile.TemporaryDirectory() as name:
        recipe = recipe_of(task, method, rate, seed, work, epochs=3)
        variant = make_variant(recipe, Path(name), Workspace(Path(name)), quiet).variant
        found = ask(task, variant, METHODS[method].quantise, work) | {"rate": rate}
    known.write_text(json.dumps(found))
    print(f"{task}, {method}, seed {seed}: {np.mean(found['items']):.4f}", flush=True)


def ask(task: str, variant: Variant, quantise: str, work: Path) -> dict[str, Any]:
    """Measure a variant on the test examples, item by item, and what it forgot."""
    base = load_base(BASE, dtype="float32", quantise=quantise)  # type: ignore[arg-type]
    settings = Recipe.parse_stored(variant.manifest.recipe, source=variant.name).render
    before = measure_general_loss(base, renderer_of(base, settings))
    ready = make_ready(variant, base)
    after = measure_general_loss(base, ready.renderer)
    assert before is not None
    assert after is not None
    parameters = ready.adapter.parameters() if ready.adapter else {}
    return {
        "items": _measured(TASKS[task], ready, base, work / task),
        "forgot": after - before,
        "trainable": sum(p.numel() for p in parameters.values()),
        "num_base": base.identity.num_parameters,
        "bytes": sum(map(len, variant.files().values())),
    }


def _measured(task: Task, ready: Ready, base: Base, folder: Path) -> list[float]:
    """One number per test example: 1 or 0 for right or wrong, or nats per token of the answer."""
    examples = load_examples(folder / "test.jsonl").examples
    if task.measure == "loss":
        rows, _ = ready.renderer.render_all(examples, ready.prompt.apply)
        return [mean_loss(base, [row]) for row in rows]
    labels = None
    if task.measure == "accuracy":
        both = (*load_examples(folder / "train.jsonl").examples, *examples)
        labels = [e.label for e in both if isinstance(e, ClassificationExample)]
    items = make_items(examples, labels)  # type: ignore[arg-type]
    texts = run_items(ready.engine, "", items, EvaluationSettings(max_new_tokens=MAX_TOKENS)).texts
    return [float(value) for value in check_answers(ExactCheck(), items, texts).values]


def measure_cost(method: str, arguments: argparse.Namespace) -> None:
    """Let a process of its own train and answer, so that its peak memory is the method's."""
    folder = arguments.work / "cost" / method
    folder.mkdir(parents=True, exist_ok=True)
    for repeat in range(REPEATS):
        known = folder / f"{repeat}.json"
        if METHODS[method].rates and not known.exists():
            command = [
                sys.executable, __file__, "one-cost", "--method", method,
                "--material", str(arguments.material), "--work", str(arguments.work),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            known.write_text(done.stdout)
            print(f"{method}: {done.stdout.strip()}", flush=True)


def cost_of(method: str, work: Path) -> dict[str, float]:
    """Time a few training steps, and answers beside those of the base alone, in turn."""
    rate = METHODS[method].rates[0]
    with tempfile.TemporaryDirectory() as name:
        recipe = recipe_of("banking77", method, rate, 0, work, max_steps=NUM_STEPS)
        variant = make_variant(recipe, Path(name), Workspace(Path(name)), quiet).variant
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        base = load_base(BASE, dtype="float32", quantise=METHODS[method].quantise)  # type: ignore[arg-type]
        plain = EmbeddedEngine(base, renderer_of(base, recipe.render))
        ratios = []
        for _ in range(NUM_TURNS):
            alone = seconds_to_answer(plain)
            ready = make_ready(variant, base)
            assert ready.adapter is not None
            ratios.append(seconds_to_answer(ready.engine) / alone)
            ready.adapter.detach()
    metrics = variant.manifest.metrics
    return {
        "seconds": metrics["train_seconds"] / metrics["steps"],
        "peak_mib": peak,
        "latency": statistics.median(ratios),
    }


def seconds_to_answer(engine: EmbeddedEngine) -> float:
    """Time per token of one chat, the prompt included."""
    chat = ({"role": "user", "content": "How do I locate my card, and when will it arrive? " * 3},)
    began = time.perf_counter()
    tokens = list(engine.stream([chat], Generation(max_tokens=MAX_TOKENS)))
    return (time.perf_counter() - began) / len(tokens)


def write_table(work: Path) -> None:
    """Write what is known; a cell that was not measured says so, and so does a method."""
    done = [method for method in METHODS if any(_seeds(work / task / method) for task in TASKS)]
    left = "; ".join(method for method in METHODS if method not in done)
    heads = [f"{name} ({task.measure}{'' if task.higher_is_better else ', lower is better'})"
             for name, task in TASKS.items()]  # fmt: skip
    columns = ["method", *heads, "trained", "on disk", "step", "peak memory", "per token", "forgot"]
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    lines += [f"| {' | '.join(_row(method, work))} |" for method in done]
    rates = [f"- {method}: " + "; ".join(f"{task} {_rates(work / task / method)}" for task in TASKS)
             for method in done if METHODS[method].rates]  # fmt: skip
    record.write(
        "methods",
        record.header("All methods on three tasks" + (", partly" if left else ""))
        + f"{NUM_TRAIN:,} examples to learn from, three epochs, {BASE} in fp32; the mean of "
        f"{len(SEEDS)} seeds on {NUM_TEST} examples of the published test split, its 95 % interval "
        "by resampling these examples, and the seeds' range. Step, peak memory: against LoRA's "
        f"(medians of {REPEATS} processes). Per token: answering beside the base alone. Forgot: "
        "rise of the loss on general text, in nats per token, mean of all runs.\n\n"
        + "\n".join(lines)
        + (f"\n\nNot measured yet: {left}." if left else "")
        + "\n\nLearning rates tried, with the loss on the tuning examples after an epoch:\n\n"
        + "\n".join(rates)
        + "\n",
    )


def _row(method: str, work: Path) -> list[str]:
    found = {task: _seeds(work / task / method) for task in TASKS}
    cells = [_quality(found[task], TASKS[task]) for task in TASKS]
    every = [one for seeds in found.values() for one in seeds]
    share = every[0]["trainable"] / every[0]["num_base"]
    own, other = _costs(work, method), _costs(work, "LoRA")
    step, peak, latency = (
        f"{own[name] / (1 if name == 'latency' else other[name]):.2f}" if own and other else "-"
        for name in ("seconds", "peak_mib", "latency")
    )
    forgot = float(np.mean([one["forgot"] for one in every]))
    size = f"{every[0]['bytes'] / 1024:,.0f} KiB"
    return [method, *cells, f"{share:.2%}", size, step, peak, latency, f"{forgot:+.2f}"]


def _quality(seeds: Sequence[Mapping[str, Any]], task: Task) -> str:
    if not seeds:
        return _MISSING
    values = np.array([one["items"] for one in seeds])
    factor, digits = (100, 1) if task.higher_is_better else (1, 3)
    draws = np.random.default_rng(0).integers(0, values.shape[1], (10_000, values.shape[1]))
    low, high = np.quantile(values.mean(0)[draws].mean(1), (0.025, 0.975)) * factor
    own = values.mean(1) * factor
    text = f"{own.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return text + (f"<br>{own.min():.{digits}f} to {own.max():.{digits}f}" if len(own) > 1 else "")


def _seeds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*.json"))]


def _rates(folder: Path) -> str:
    tried = {p.stem.removeprefix("rate-"): json.loads(p.read_text()) for p in folder.glob("rate-*")}
    return ", ".join(f"{rate} {tried[rate]:.3f}" for rate in sorted(tried, key=float)) or _MISSING


def _costs(work: Path, method: str) -> dict[str, float]:
    found = [json.loads(p.read_text()) for p in (work / "cost" / method).glob("*.json")]
    names = found[0] if found else ()
    return {name: statistics.median(one[name] for one in found) for name in names}


def quiet(event: Event) -> None:
    """Show nothing: the result file tells."""


if __name__ == "__main__":
    main()
