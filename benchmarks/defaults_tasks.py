"""What `defaults.py` measures: bases, small tasks, and the methods with the cells of each."""

import gzip
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kamerton

__all__ = ["BASES", "METHODS", "TASKS", "Method", "write_data"]

NUM_TRAIN, NUM_DEV, NUM_REPORT = 160, 60, 120
_LONGEST = 240
"""Characters of both sides: the smallest base reads two letters a token, and sees 512 tokens."""
_LABELS_EVERY = 4
"""Every fourth of BANKING77's labels: a small desk has twenty, each with several examples."""
_SEED = 0

SMALL, LARGE = ("nano", "stories260K"), "smollm2"
BASES = (*SMALL, LARGE)


@dataclass(frozen=True)
class Method:
    """An adapter, and whatever of the training is no default.

    Attributes:
        adapter: As in a recipe.
        centre: Of the grid: a rate, or where it is negative a multiple of LoRA's by width.
        train: As in a recipe.
    """

    adapter: Mapping[str, Any]
    centre: float = -1.0
    train: Mapping[str, Any] = field(default_factory=dict)


def _prefix(**settings: Any) -> Method:
    return Method({"kind": "prefix", **settings}, 0.1)


_LORA = {"kind": "lora"}
METHODS = {
    "LoRA": Method(_LORA),
    "rsLoRA": Method({**_LORA, "rank_stabilised": True}),
    "LoRA+": Method({**_LORA, "rate_ratio": 16.0}, -0.25),
    "PiSSA": Method({**_LORA, "init": "pissa"}),
    "DoRA": Method({**_LORA, "decompose": True}),
    "LoRA, batch x 4": Method(_LORA, train={"tokens_per_step": 1200}),
    "LoRA, warm-up 3 %": Method(_LORA, train={"warmup": 0.03}),
    "full": Method({"kind": "full"}, -0.1),
    "norms and biases": Method({"kind": "full", "parts": ["norms-and-biases"]}, 1e-2),
    "bottleneck": Method({"kind": "bottleneck"}),
    "IA3": Method({"kind": "ia3"}, 1e-2),
    "prompt 32, text": Method({"kind": "prompt", "num_tokens": 32}, 3e-2),
    "prefix 16, text": _prefix(num_tokens=16),
    "prefix 32, text": _prefix(num_tokens=32),
    "prefix 64, text": _prefix(num_tokens=64),
    "prefix 128, text": _prefix(num_tokens=128),
    "prefix 32, random": _prefix(num_tokens=32, init="random"),
    "prefix 32, text, network": Method({"kind": "prefix", "num_tokens": 32, "network": 128}, 3e-3),
}


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open() as lines:
        return [json.loads(line) for line in lines]


def _shuffled(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = list(rows)
    random.Random(_SEED).shuffle(found)
    return found


def _desk(material: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The bundled help desk in English; what is reported on are other wordings of its questions."""
    del material
    desk = Path(kamerton.__file__).parent / "demo_desk"
    both = (_read(desk / "train.jsonl"), _read(desk / "holdout.jsonl"))
    one, other = (
        [{"messages": row["messages"]} for row in rows if row["language"] == "en"] for rows in both
    )
    return _shuffled(one), _shuffled(other)


def _banking(material: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    one, other = (_read(material / f"banking77.{split}.jsonl.gz") for split in ("train", "test"))
    labels = set(sorted({row["label"] for row in one})[::_LABELS_EVERY])
    return tuple(  # type: ignore[return-value]
        _shuffled(row for row in rows if row["label"] in labels and len(row["text"]) < _LONGEST)
        for rows in (one, other)
    )


def _sides(name: str, other: str) -> Callable[[Path], Any]:
    def read(material: Path) -> Any:
        return tuple(
            _shuffled(
                {side: row[side] for side in ("prompt", "completion")}
                for row in _read(material / f"{name}.{split}.jsonl.gz")
                if len(row["prompt"] + row["completion"]) < _LONGEST
            )
            for split in ("train", other)
        )

    return read


TASKS: dict[str, Callable[[Path], Any]] = {
    "desk": _desk,
    "banking": _banking,
    "frames": _sides("positive_frames", "dev"),
}


def write_data(material: Path, work: Path) -> None:
    """Write each task's examples: to learn from, to choose on, to report on.

    Args:
        material: Where the published sets are.
        work: Receives a folder per task; what is there stays.
    """
    for task, read in TASKS.items():
        folder = work / task
        if (folder / "report.jsonl").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        rows, reported = read(material)
        parts = {
            "train": rows[:NUM_TRAIN],
            "dev": rows[NUM_TRAIN : NUM_TRAIN + NUM_DEV],
            "report": reported[:NUM_REPORT],
        }
        for name, part in parts.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
