"""What `preferences.py` compares: tasks, objectives with the rates that are tried, and recipes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kamerton.core.settings import read_toml
from kamerton.flows.recipe import Recipe

BASE = "builtin:nano"
SEEDS = (0, 1, 2)
NUM_SAMPLES, MAX_TOKENS = 4, 64
NOISE = (0, 10, 20, 30)
"""Percent of the training pairs that are turned round."""

_HERE = Path(__file__).resolve().parent
_RECIPES = _HERE.parent / "recipes"
_ONLINE_STEPS, _TRIED_STEPS = 30, 10
START, REWARD = "start", "reward"
BETTER = "better"
"""The pairs' better answers, without the worse ones, and a variant that learned from them."""
_BETTER_RATE = 1e-3


@dataclass(frozen=True)
class Method:
    """An objective with the learning rates that are tried.

    Attributes:
        objective: As in a recipe; empty for the start as it is.
        rates: Tried; a rate that is alone is taken as it is.
        epochs: Passes over the pairs, where answers are given.
        start: The variant that it goes on from; empty begins with the base.
        train: Which file of pairs it learns from.
    """

    objective: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    epochs: int = 3
    start: str = START
    train: str = "pairs"

    @property
    def online(self) -> bool:
        """Whether it learns from its own answers."""
        return "rewards" in self.objective

    @property
    def judges(self) -> bool:
        """Whether it is a reward model, which writes nothing."""
        return self.objective.get("kind") == "reward"

    def needs(self, task: str) -> tuple[str, ...]:
        """Variants that must be there before it: all answers of the desk are judged too."""
        rewards = self.objective.get("rewards", ())
        judges = [one["variant"] for one in rewards if one["kind"] == "variant"]
        if task == "desk":
            judges.append(REWARD)
        return (START, *dict.fromkeys([*judges, self.start or START]))


def _online(kind: str, judge: str = REWARD, **settings: Any) -> dict[str, Any]:
    rewards = [{"kind": "variant", "variant": judge}]
    return {"kind": kind, "rewards": rewards, "max_tokens": MAX_TOKENS, **settings}


_FUNCTION = {"kind": "function", "function": f"{_HERE / 'exploitable_reward.py'}:pleasing"}
_OFFLINE, _FRESH, _OWN = (3e-5, 1e-4, 3e-4), (1e-3, 3e-3, 1e-2), (3e-4, 1e-3)
_NEAR = (1e-4, 3e-4, 1e-3)

_BETTER_SFT = Method({"kind": "sft"}, _NEAR, train=BETTER)

_DESK = {
    "SFT only": Method(),
    "SFT on the better answers": _BETTER_SFT,
    "SFT on the better answers at 3e-4": Method({"kind": "sft"}, (3e-4,), train=BETTER),
    "DPO": Method({"kind": "dpo"}, _OFFLINE),
    # At DPO's own rate, and a third of it: its start has seen the pairs that rates are tried on.
    "DPO after the better answers": Method({"kind": "dpo"}, (1e-4,), start=BETTER),
    "DPO after the better answers at 3e-5": Method({"kind": "dpo"}, (3e-5,), start=BETTER),
    "SimPO": Method({"kind": "simpo"}, _OFFLINE),
    "ORPO": Method({"kind": "orpo", "weight": 0.5}, _OFFLINE),
    "ORPO at 1e-3": Method({"kind": "orpo", "weight": 0.5}, (1e-3,)),
    "ORPO from the base": Method({"kind": "orpo", "weight": 0.5}, _FRESH, epochs=8, start=""),
    "KTO": Method({"kind": "kto"}, _NEAR),
    "reward model": Method({"kind": "reward"}, (3e-4, 1e-3, 3e-3), start=""),
    "PPO": Method(_online("ppo", num_generations=NUM_SAMPLES, num_iterations=2), _OWN),
    "RLOO": Method(_online("rloo", num_generations=NUM_SAMPLES), _OWN),
    "GRPO": Method(_online("grpo", num_generations=NUM_SAMPLES), _OWN),
    "DRPO": Method(_online("drpo"), _OWN),
    "RLOO, exploitable reward": Method(
        _online("rloo", num_generations=NUM_SAMPLES, rewards=[_FUNCTION]), _OWN
    ),
}

_NOISY_RATES = (1e-4, 3e-4)
"""Of given answers, and of own ones."""

_HARMLESS = {
    "SFT only": Method(),
    **{
        name: Method(_DESK[name].objective, _OFFLINE, epochs=1)
        for name in ("DPO", "SimPO", "ORPO", "KTO")
    },
    "reward model": Method({"kind": "reward"}, (1e-4, 3e-4, 1e-3), epochs=1, start=""),
    # Own answers: at the rate that the desk chose.
    **{
        name: Method(_DESK[name].objective, (rate,))
        for name, rate in (("PPO", 3e-4), ("RLOO", 3e-4), ("GRPO", 1e-3), ("DRPO", 1e-3))
    },
}


def _noisy() -> dict[str, Method]:
    """No rates are tried: what is compared is how methods bear noise."""
    found = {}
    for share in NOISE:
        train, judge = f"flipped-{share}", f"{REWARD}-{share}"
        objectives: dict[str, dict[str, Any]] = {"DPO": {"kind": "dpo"}}
        if share:
            objectives["robust DPO"] = {
                "kind": "dpo", "loss_type": "robust", "label_smoothing": share / 100,
            }  # fmt: skip
        objectives["Dr. DPO"] = {"kind": "dpo", "robustness": "dr-dpo"}
        objectives["DRPO"] = _online("drpo", judge)
        for name, objective in objectives.items():
            rate = _NOISY_RATES["rewards" in objective]
            found[noisy_name(name, share)] = Method(objective, (rate,), train=train)
    return found


def noisy_name(method: str, share: int) -> str:
    """Name a method at a share of turned pairs."""
    return f"{method}, {share} %"


TASKS: dict[str, dict[str, Method]] = {
    "desk": _DESK,
    "hh_harmless": _HARMLESS,
    "noise": _noisy(),
}


def recipe_of(task: str, method: str, rate: float, seed: int, tried: bool, folder: Path) -> Recipe:
    """Make the recipe of a run.

    Args:
        task: Of `TASKS`.
        method: Of the task.
        rate: Learning rate.
        seed: Of training.
        tried: Whether the run only tries the rate: without the tuning pairs, and shorter where
            answers are its own.
        folder: Of the task's files.
    """
    made = TASKS[task][method]
    train: dict[str, Any] = {"epochs": made.epochs}
    if made.online:
        train = {"epochs": 3, "max_steps": _TRIED_STEPS if tried else _ONLINE_STEPS}
    what = f"rate-{rate:g}" if tried else f"seed-{seed}"
    # A tried run is measured where it was not trained; others are only measured by their answers.
    data = {"train": f"{made.train}-tried.jsonl" if tried else f"{made.train}.jsonl"}
    held = {"holdout": str(folder / "tune.jsonl") if tried and made.online else 0.0}
    return Recipe.parse(
        {
            "name": re.sub(r"\W+", "-", f"{method} {what}").lower(),
            "base": {"id": BASE, "dtype": "float32"},
            "start_from": made.start,
            "data": {"train": str(folder / data["train"]), **held},
            "objective": dict(made.objective),
            "train": {
                "learning_rate": rate, "seed": seed, "tokens_per_step": 2048, "keep": "last",
                "evaluate_every": 10**6, **train,
            },
        }
    )  # fmt: skip


def recipe_before(task: str, name: str, folder: Path) -> Recipe:
    """Make the recipe of a variant that others need: a start, or a reward model."""
    if name == BETTER:
        made = recipe_of(task, "SFT on the better answers", _BETTER_RATE, 0, False, folder)
        return made.model_copy(update={"name": name})
    if name == START:
        values = read_toml(_RECIPES / "preference-start.toml")
        values["train"] |= {"learning_rate": 4e-3, "tokens_per_step": 2048}
        train = "start.jsonl"
        if task == "hh_harmless":
            values["train"] |= {"epochs": 2}
    else:
        values = read_toml(_RECIPES / "reward.toml")
        values["train"] |= {"learning_rate": 1e-3, "tokens_per_step": 2048}
        train = "pairs.jsonl" if name == REWARD else f"{name.replace(REWARD, 'flipped')}.jsonl"
    values |= {
        "name": name,
        "base": {"id": BASE, "dtype": "float32"},
        "data": {"train": str(folder / train), "holdout": 0.0},
    }
    return Recipe.parse(values)
