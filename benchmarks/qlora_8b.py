"""QLoRA on an 8-billion-parameter Llama shape: loaded layer by layer, trained for some steps.

    python benchmarks/qlora_8b.py write --work DIR     # 16 GB of random weights in 34 shards
    python benchmarks/qlora_8b.py run --work DIR [--trl-python .venv-trl/bin/python]

With `--trl-python`, TRL + PEFT + bitsandbytes (installed there) train the same shape first, in
a process of their own, with rows of the same size. Weights are random, so losses say nothing; time
and memory are those of a real base. The prediction adds up what must be there: packed weights,
what stays dense, LoRA with its gradient and two moments, the largest layer while it is dense, what
a row keeps for the backward pass, and libraries.
"""

import argparse
import json
import resource
import subprocess
import time
from pathlib import Path

import psutil
import record
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig

from kamerton.core.events import Event, RunStarted, StepDone
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.load import find_base

CONFIG = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192,
    rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, bos_token_id=0,
    eos_token_id=1, architectures=["LlamaForCausalLM"], dtype="bfloat16",
)  # fmt: skip
RANK = 16
NF4_BITS = 4.13
ROW = 82
"""Tokens of an example, as ours come out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("write", "run"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=5, help="examples in a step")
    parser.add_argument("--trl-python", type=Path)
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16",
        help="of computation; float32 where the CPU has no instructions for bf16",
    )  # fmt: skip
    parser.add_argument("--recompute", choices=("auto", "none", "all"), default="auto")
    arguments = parser.parse_args()
    if arguments.part == "write":
        write(arguments.work / "model")
    else:
        theirs = with_trl(arguments) if arguments.trl_python else None
        run(arguments, theirs)


def layer_sizes() -> dict[str, tuple[int, int]]:
    """Sizes [out, in] of a block's linear layers."""
    hidden, inner = CONFIG.hidden_size, CONFIG.intermediate_size
    narrow = int(CONFIG.num_key_value_heads or 0) * hidden // CONFIG.num_attention_heads
    attention = {"q": (hidden, hidden), "k": (narrow, hidden), "v": (narrow, hidden)}
    return {
        **{f"self_attn.{name}_proj": size for name, size in attention.items()},
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def write(folder: Path) -> None:
    """Write a checkpoint of random weights, a shard per block."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    places: dict[str, str] = {}

    def shard(number: int, tensors: dict[str, torch.Tensor]) -> None:
        name = f"model-{number:05d}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
        places.update(dict.fromkeys(tensors, name))

    def normal(*size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.bfloat16).normal_(std=0.02)

    hidden = CONFIG.hidden_size
    for block in range(CONFIG.num_hidden_layers):
        prefix = f"model.layers.{block}."
        tensors = {f"{prefix}{name}.weight": normal(*size) for name, size in layer_sizes().items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        shard(block, tensors)
    shard(
        CONFIG.num_hidden_layers, {"model.embed_tokens.weight": normal(CONFIG.vocab_size, hidden)}
    )
    last = {"lm_head.weight": normal(CONFIG.vocab_size, hidden)}
    last["model.norm.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    shard(CONFIG.num_hidden_layers + 1, last)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    CONFIG.save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_base("builtin:nano")).save_pretrained(folder)


def with_trl(arguments: argparse.Namespace) -> dict[str, float]:
    """Train the same shape with TRL + PEFT + bitsandbytes; the first step only warms up."""
    work, steps = arguments.work, arguments.steps
    generator = torch.Generator().manual_seed(0)
    trained = [place >= ROW - ROW // 4 for place in range(ROW)]
    rows = [
        {"ids": torch.randint(8, 1000, (ROW,), generator=generator).tolist(), "trained": trained}
        for _ in range(arguments.batch * (steps + 1))
    ]
    (work / "rows.json").write_text(json.dumps(rows))
    command = [
        str(arguments.trl_python), str(Path(__file__).with_name("trl_side.py")), str(work), "--nf4",
        "--steps", str(steps + 1), "--batch", str(arguments.batch), "--rank", str(RANK),
        "--dtype", arguments.dtype, "--threads", str(torch.get_num_threads()),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"TRL: {found}", flush=True)
    return found


def run(arguments: argparse.Namespace, theirs: dict[str, float] | None) -> None:
    """Train for some steps and write down what it took."""
    work, steps = arguments.work, arguments.steps
    room = arguments.batch * 102 + 2  # examples come out a little longer or shorter
    rows = [
        {
            "prompt": f"Question {number}: " + "why is my order late? " * 8,
            "completion": "Soon. " * 8,
        }
        for number in range(8 * steps + 4)
    ]
    (work / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.parse(
        {
            "name": "qlora",
            "base": {"id": str(work / "model"), "dtype": arguments.dtype, "quantise": "nf4"},
            "data": {"train": str(work / "data.jsonl"), "holdout": 0.02},
            "adapter": {"kind": "lora", "rank": RANK, "alpha": 32.0},
            "train": {
                "max_steps": steps, "epochs": 100, "tokens_per_step": room,
                "tokens_per_row": room, "keep": "last", "evaluate_every": 10**6,
                "checkpoint_every_s": 10**6,
                "gradient_checkpointing": arguments.recompute,
            },
        }
    )  # fmt: skip
    began, seen = time.monotonic(), list[tuple[float, Event, int]]()

    def sink(event: Event) -> None:
        resident = psutil.Process().memory_info().rss
        seen.append((time.monotonic() - began, event, resident))
        print(
            f"{seen[-1][0]:.0f} s, {resident / 2**30:.2f} GiB: {type(event).__name__}", flush=True
        )

    make_variant(recipe, work, Workspace(work), sink, fresh=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    done = [event for _, event, _ in seen if isinstance(event, StepDone)]
    checked = next((at, memory) for at, event, memory in seen if isinstance(event, RunStarted))
    tokens, seconds = sum(e.num_tokens for e in done), sum(e.seconds for e in done)
    parts = predicted(room, getattr(torch, arguments.dtype).itemsize, arguments.recompute == "all")
    lines = "".join(f"| {name} | {size:.2f} |\n" for name, size in parts.items())
    record.write(
        "qlora_8b",
        record.header("QLoRA on an 8-billion-parameter Llama shape")
        + f"Random weights in 34 shards, NF4 with double quantisation, LoRA rank {RANK} on all "
        f"linear layers, rows of at most {room} tokens, computed in {arguments.dtype}"
        f"{', all blocks recomputed' if arguments.recompute == 'all' else ''}.\n\n"
        f"- loaded, hashed, quantised and self-checked after {checked[0]:.0f} s "
        f"({checked[1] / 2**30:.2f} GiB resident)\n"
        f"- {len(done)} steps of {tokens / len(done):.0f} tokens: {seconds / len(done):.1f} s "
        f"each, {tokens / seconds:.1f} tokens/s\n"
        f"- peak memory {peak:.2f} GiB, predicted {sum(parts.values()):.2f}\n"
        + (beside(theirs, tokens / seconds, peak) if theirs else "")
        + "\n"
        f"| predicted part | GiB |\n| --- | ---: |\n{lines}",
    )


def beside(theirs: dict[str, float], speed: float, peak: float) -> str:
    """One line on TRL's side."""
    their_speed, their_peak = theirs["tokens"] / theirs["seconds"], theirs["peak_rss_mib"] / 1024
    return (
        f"- TRL + PEFT + bitsandbytes, with checkpointing as TRL does by itself: loaded after "
        f"{theirs['load_seconds']:.0f} s, {their_speed:.2f} tokens/s, peak memory {their_peak:.2f} "
        f"GiB: {speed / their_speed:.1f} times as fast here, with {peak / their_peak:.2f} of the "
        "memory\n"
    )


def predicted(room: int, itemsize: int, recomputed: bool) -> dict[str, float]:
    """What must be in memory at once, in GiB; numbers of the computation take `itemsize` bytes."""
    sizes = list(layer_sizes().values())
    packed = CONFIG.num_hidden_layers * sum(out * inner for out, inner in sizes)
    dense = 2 * CONFIG.vocab_size * CONFIG.hidden_size
    lora = CONFIG.num_hidden_layers * sum(RANK * (out + inner) for out, inner in sizes)
    widest = max(out * inner for out, inner in sizes)
    # Kept by a block: what its layers read, what attention and the gates make of it.
    kept = 8 * CONFIG.hidden_size + 4 * CONFIG.intermediate_size
    if recomputed:
        kept += CONFIG.num_hidden_layers * CONFIG.hidden_size
    else:
        kept *= CONFIG.num_hidden_layers
    parts = {
        "packed weights": packed * NF4_BITS / 8,
        "embeddings and head": dense * itemsize,
        "LoRA, gradient, two moments": lora * 16,
        "one dense layer, forward or backward": widest * itemsize,
        f"kept for {room} tokens": room * kept * itemsize,
        "Python and libraries": 0.45 * 2**30,
    }
    return {name: size / 2**30 for name, size in parts.items()}


if __name__ == "__main__":
    main()
