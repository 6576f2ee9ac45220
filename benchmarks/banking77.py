"""BANKING77, full test split: LoRA beside zero-shot, k-shot and full fine-tuning of the same base.

    python benchmarks/banking77.py --material DIR --base builtin:nano
    python benchmarks/banking77.py --material DIR --base DIR/models/stories260K

Also prints the perplexity of story text before and after loading, against random weights of the
same shape, which proves that the pretrained weights are in use. Labels are scored by likelihood.
Nothing is tuned on the test split: settings were chosen once on a tenth of the training split.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from pathlib import Path

import torch

from kamerton.core.events import Event, HoldoutMeasured
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.heads import token_logprobs
from kamerton.models.layout import Layout
from kamerton.models.load import load_base

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
)


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


def recipe(kind: str, arguments: argparse.Namespace) -> Recipe:
    """The recipe of a method; the same examples, order and epochs for all."""
    data = arguments.material / "data"
    adapter = {"kind": kind, "rank": 16, "alpha": 32.0} if kind == "lora" else {"kind": kind}
    return Recipe.parse(
        {
            "name": kind,
            "base": arguments.base,
            "data": {
                "train": str(data / "banking77.train.jsonl.gz"),
                "holdout": str(data / "banking77.test.jsonl.gz"),
            },
            "adapter": adapter,
            "train": {
                "epochs": arguments.epochs,
                "learning_rate": arguments.lora_rate if kind == "lora" else arguments.full_rate,
                "tokens_per_step": 2048,
                "evaluate_every": 10**6,
                "keep": "last",
            },
            "evaluate": {"shots": arguments.shots},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--base", default="builtin:nano")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--lora-rate", type=float, default=4e-3)
    parser.add_argument("--full-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    print(f"machine: {platform.machine()}, torch {torch.__version__}, base {arguments.base}")
    for random_weights in (True, False):
        name = "random weights" if random_weights else "pretrained"
        print(f"story perplexity, {name}: {story_perplexity(arguments.base, random_weights):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        variants = []
        for kind in ("lora", "full"):
            started = time.monotonic()
            made = make_variant(recipe(kind, arguments), Path(folder), workspace, quiet)
            variants.append(made.variant)
            print(f"{kind}: trained in {time.monotonic() - started:.0f} s", flush=True)
        evaluated = evaluate_variants(variants, workspace, quiet)
    for one in evaluated.comparison.measured:
        print(f"{one.variant:>10} {one.metric}: {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]")
    for one in evaluated.comparison.differences:
        print(
            f"{one.variant} - {one.against}, {one.metric}: {one.value:+.4f}, "
            f"p {one.p_corrected:.2g} ({one.test}, Holm)"
        )
    print(json.dumps(evaluated.comparison.to_json()))


def quiet(event: Event) -> None:
    if isinstance(event, HoldoutMeasured):
        print(f"  step {event.step}: held-out loss {event.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
