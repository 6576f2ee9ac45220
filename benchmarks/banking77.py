"""BANKING77, full test split: LoRA beside zero-shot, k-shot and full fine-tuning of one base.

    python benchmarks/banking77.py --material DIR --base builtin:nano
    python benchmarks/banking77.py --material DIR --base DIR/models/stories260K

With `--work DIR` what was done is kept there, and a run that was cut goes on; `--part lora` and
`--part full` do one method each, which can run side by side, and a last run compares them.

Learning rates are chosen by held-out loss on a tenth of the training split, the same number of
tries for both methods; the test split is touched once, at the end. Labels are scored by
likelihood. The perplexity of a story under the loaded base, beside random weights of the same
shape, shows that the pretrained weights are in use.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import record
import torch

from kamerton.core.events import Event
from kamerton.evaluation.table import markdown_table
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.attention.layout import Layout
from kamerton.models.heads import token_logprobs
from kamerton.models.load import load_base

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
)
ADAPTERS = {
    "lora": {"kind": "lora", "rank": 16, "alpha": 32.0},
    "full": {"kind": "full"},
}
RATES = {"lora": (1e-3, 2e-3, 4e-3, 8e-3), "full": (5e-4, 1e-3, 2e-3, 4e-3)}


@torch.no_grad()
def story_perplexity(name: str, random_weights: bool) -> float:
    """Perplexity of a story under a base, or under random weights of its shape."""
    base = load_base(name, dtype="float32")
    if random_weights:
        torch.manual_seed(0)
        for parameter in base.model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
    ids = torch.tensor(base.tokenizer(STORY)["input_ids"])
    hidden = base.hidden(ids, Layout.of_lengths([len(ids)]))
    return math.exp(-float(token_logprobs(hidden[:-1], ids[1:], base.head).mean()))


def recipe(kind: str, rate: float, arguments: argparse.Namespace, *, tuning: bool) -> Recipe:
    """The recipe of a method; the same examples, order and epochs for all."""
    data = arguments.material / "data"
    test = str(data / "banking77.test.jsonl.gz")
    return Recipe.parse(
        {
            "name": kind,
            "base": {"id": arguments.base, "dtype": "float32"},
            "data": {
                "train": str(data / "banking77.train.jsonl.gz"),
                "holdout": 0.1 if tuning else test,
            },
            "adapter": ADAPTERS[kind],
            "train": {
                "epochs": 2 if tuning else arguments.epochs,
                "learning_rate": rate,
                "tokens_per_step": 2048,
                "evaluate_every": 0 if tuning else 10**6,
                "keep": "last",
            },
            "evaluate": {"shots": arguments.shots},
        }
    )


def tune(kind: str, arguments: argparse.Namespace, work: Path) -> dict[float, float]:
    """Held-out loss of two epochs by learning rate, on a tenth of the training split."""
    losses = {}
    for rate in RATES[kind]:
        known = work / f"{kind}-{rate:g}.json"
        if not known.exists():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                tried = recipe(kind, rate, arguments, tuning=True)
                made = make_variant(tried, folder, Workspace(folder), quiet)
            known.write_text(json.dumps(made.variant.manifest.metrics["holdout_loss"]))
        losses[rate] = json.loads(known.read_text())
        print(f"{kind} at {rate:g}: held-out loss {losses[rate]:.4f}", flush=True)
    return losses


def learn(kind: str, rate: float, arguments: argparse.Namespace, work: Path) -> Made:
    """Train on the whole training split; a finished run is only read."""
    chosen = recipe(kind, rate, arguments, tuning=False)
    made = make_variant(chosen, work, Workspace(work), quiet)
    seconds = made.variant.manifest.metrics["train_seconds"]
    print(f"{kind}: {seconds:.0f} s in steps", flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--base", default="builtin:nano")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--part", choices=ADAPTERS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
        work_on(arguments, arguments.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        work_on(arguments, Path(folder))


def work_on(arguments: argparse.Namespace, work: Path) -> None:
    """Do one method's part, or all that is left and the comparison."""
    made, tuned = [], []
    for kind in [arguments.part] if arguments.part else ADAPTERS:
        losses = tune(kind, arguments, work)
        rate = min(losses, key=losses.__getitem__)
        made.append(learn(kind, rate, arguments, work))
        listed = ", ".join(f"{r:g} {x:.4f}" for r, x in losses.items())
        seconds = made[-1].variant.manifest.metrics["train_seconds"]
        tuned.append(f"- {kind}: {listed}; then {seconds:.0f} s of training at {rate:g}\n")
    if arguments.part:
        return
    evaluated = evaluate_variants([one.variant for one in made], Workspace(work), quiet)
    name = Path(arguments.base).name.removeprefix("builtin:")
    perplexities = [story_perplexity(arguments.base, random) for random in (True, False)]
    record.write(
        f"banking77_{name}",
        record.header(f"BANKING77 on {name}")
        + f"Story perplexity: {perplexities[0]:.1f} with random weights of the shape, "
        f"{perplexities[1]:.2f} with the loaded ones.\n\n"
        "Held-out loss after two epochs on nine tenths of the training split, by learning rate; "
        f"then {arguments.epochs} epochs on all of it, and the test split once:\n\n"
        + "".join(tuned)
        + "\n"
        + markdown_table(evaluated.comparison)
        + "\n",
    )


def quiet(event: Event) -> None:
    """Show nothing: the result file tells."""


if __name__ == "__main__":
    main()
