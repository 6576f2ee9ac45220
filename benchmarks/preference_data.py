"""The pairs that `preferences.py` learns from and measures on, a folder per task."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from preference_methods import BASE, BETTER, NOISE

from kamerton.core.errors import RenderingError
from kamerton.data.dataset import load_examples
from kamerton.data.examples import PreferenceExample
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.demo import DESK
from kamerton.models.load import load_base
from kamerton.variants.rendering import renderer_of

NUM_HELD, NUM_TUNE = 500, 200
_TUNE_SHARE = 5
_LONGEST = 384
_TRIED_EVERY = 3
"""Published pairs are long: rates are tried on a third of them."""
_SEED = 0


def write_data(task: str, folder: Path, material: Path | None) -> None:
    """Write a task's files; those that are there stay.

    `start.jsonl` is what the start learns, `pairs.jsonl` and its flipped forms what methods learn,
    the `-tried` ones the same without `tune.jsonl`, on which rates are chosen, and `held.jsonl`
    is only measured on.
    """
    if (folder / "held.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if task == "hh_harmless":
        assert material is not None, "hh_harmless needs --material"
        _write_harmless(folder, material / "data" / "hh_harmless.test.jsonl.gz")
        return
    pairs = _read(DESK / "pairs.jsonl")
    prompts = list(dict.fromkeys(_prompt(row) for row in pairs))
    kept_aside = set(prompts[-(len(prompts) // _TUNE_SHARE) :])
    _write(folder / "start.jsonl", _read(DESK / "mixed.jsonl"))
    _write(folder / "tune.jsonl", (row for row in pairs if _prompt(row) in kept_aside))
    sets = _flipped(pairs) if task == "noise" else {"pairs": pairs, BETTER: _better(pairs)}
    for name, rows in sets.items():
        _write(folder / f"{name}.jsonl", rows)
        left = (row for row in rows if _prompt(row) not in kept_aside)
        _write(folder / f"{name}-tried.jsonl", left)
    _write(folder / "held.jsonl", _read(DESK / "pairs_holdout.jsonl"))


def _better(pairs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]


def _flipped(pairs: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Turn shares of the pairs round; a larger share has those of the smaller one too."""
    order = list(range(len(pairs)))
    random.Random(_SEED).shuffle(order)
    found = {}
    for share in NOISE:
        turned = set(order[: round(len(pairs) * share / 100)])
        found[f"flipped-{share}"] = [
            {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if n in turned else row
            for n, row in enumerate(pairs)
        ]
    return found


def _write_harmless(folder: Path, source: Path) -> None:
    """Take the published pairs that are short enough, one for each prompt."""
    base = load_base(BASE, dtype="float32", weights=False)
    renderer = renderer_of(base, RenderSettings())
    rows: dict[str, dict[str, Any]] = {}
    for example in load_examples(str(source)).examples:
        assert isinstance(example, PreferenceExample)
        try:
            pair = renderer.render_pair(example)
        except RenderingError:
            continue
        if pair.num_prompt + len(pair.chosen_ids) + len(pair.rejected_ids) <= _LONGEST:
            row = {
                "prompt": list(map(dict, example.prompt)),
                "chosen": list(map(dict, example.chosen)),
                "rejected": list(map(dict, example.rejected)),
            }
            rows.setdefault(_prompt(row), row)
    chosen = list(rows.values())
    random.Random(_SEED).shuffle(chosen)
    held, tune, train = (
        chosen[:NUM_HELD], chosen[NUM_HELD : NUM_HELD + NUM_TUNE], chosen[NUM_HELD + NUM_TUNE :],
    )  # fmt: skip
    _write(folder / "start.jsonl", _better(train))
    _write(folder / "tune.jsonl", tune)
    _write(folder / "pairs.jsonl", train)
    _write(folder / "pairs-tried.jsonl", train[::_TRIED_EVERY])
    _write(folder / "held.jsonl", held)


def _prompt(row: Mapping[str, Any]) -> str:
    return json.dumps(row["prompt"])


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
