"""The result file of `preferences.py`, from what is in its work folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
from numpy.typing import NDArray
from preference_answers import RULES, Rules, read_rows
from preference_methods import BASE, NOISE, NUM_SAMPLES, SEEDS, START, TASKS, noisy_name

from kamerton.evaluation.statistics import (
    bootstrap,
    bootstrap_interval,
    holm,
    permutation_p,
)
from kamerton.flows.demo import DESK

Floats = NDArray[np.float64]
Found = Mapping[str, Any]

_MISSING = "not measured"
_RESAMPLES = 10_000
_SFT = "SFT only"
_CONTROL = "SFT on the better answers"
_JUDGE = "reward model"
_EXPLOITED = "RLOO, exploitable reward"


def preferred(found: Found, per_token: bool = False) -> Floats:
    """By pair 1 where the better answer is the more probable one, 0.5 for a tie.

    Args:
        found: Of a run, as `preference_answers` gives it.
        per_token: Compare means over tokens instead of sums.

    Returns:
        [pairs].
    """
    sums = np.array(found["pairs"])
    sides = sums[:, :2] / sums[:, 2:] if per_token else sums[:, :2]
    gap = sides[:, 0] - sides[:, 1]
    return np.asarray((gap > 0) + (gap == 0) / 2)


def in_short(found: Found) -> str:
    """A line for whoever waits."""
    shown = {k: v for k, v in found.items() if isinstance(v, float | str)}
    if "pairs" in found:
        shown["preferred"] = preferred(found).mean()
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in shown.items()
    )


def write_table(work: Path) -> None:
    """Write what is known; a cell that was not measured says so."""
    parts = [
        record.header("Learning from preferences"),
        f"{BASE} in fp32; the mean of {len(SEEDS)} seeds, its 95 % interval by resampling the "
        "held-out prompts, and the seeds' range.\n",
        *_desk(work / "desk"),
        *_noise(work / "noise"),
        *_harmless(work / "hh_harmless"),
    ]
    record.write("preferences", "\n".join(parts) + "\n")


class _Desk:
    """Runs on the desk's pairs, with their answers judged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = read_rows(DESK / "pairs_holdout.jsonl")
        self.rules = [row["rule"] for row in rows]
        self._judge = Rules(read_rows(DESK / "pairs.jsonl"))
        self._kept: dict[tuple[str, str], Floats] = {}

    def runs(self, method: str) -> list[dict[str, Any]]:
        """Of a method, by seed."""
        found = (self.folder / method / f"seed-{seed}.json" for seed in SEEDS)
        return [json.loads(path.read_text()) for path in found if path.exists()]

    def kept(self, method: str, which: str = "texts") -> Floats | None:
        """[seeds, prompts] share of a method's answers that keep their prompt's rule."""
        if (method, which) not in self._kept:
            runs = self.runs(method)
            if not runs:
                return None
            self._kept[method, which] = np.array(
                [
                    [self._share(*both) for both in zip(self.rules, run[which], strict=True)]
                    for run in runs
                ]
            )
        return self._kept[method, which]

    def _share(self, rule: str, answers: str | Sequence[str]) -> float:
        texts = [answers] if isinstance(answers, str) else answers
        return float(np.mean([self._judge.kept(rule, text) for text in texts]))


def _desk(folder: Path) -> list[str]:
    desk = _Desk(folder)
    methods = [name for name in TASKS["desk"] if name != _JUDGE]
    compared = [m for m in methods if m != _SFT and desk.kept(m) is not None]
    p_values = _p_values(desk, compared)
    columns = [
        "method", "rule kept, sampled", "than SFT", "p", "wins", "rule kept, greedy",
        "preferred", "preferred per token", "tokens", "KL", "reward",
    ]  # fmt: skip
    text = (
        "\n## The desk's rules\n\nRule kept: share of answers that keep their prompt's rule, "
        f"{NUM_SAMPLES} drawn at temperature 1 for each held-out prompt, and the greedy one. Than "
        "SFT: difference in points with its paired interval, and the permutation test's p, "
        "corrected for all methods (Holm). Wins: against SFT's answers to the same prompts, judged "
        "by the rule in both orders; a tie is half a win. Preferred: share of held-out pairs in "
        "which the better answer is the more probable one. KL: of own answers to the start, nats "
        "an answer. Reward: the reward model's mean for own answers, before and after.\n"
    )
    return [
        text,
        *_table(columns, [_desk_row(desk, method, p_values) for method in methods]),
        *_beside_control(desk, compared),
        "\nBy rule, percent: kept when sampled, kept when greedy, preferred:\n",
        *_table(["method", *RULES], [_rules_row(desk, method) for method in methods]),
        "\nSteps alone, without loading, reference and measuring (machines share their cores with "
        "others: only the order of magnitude counts), the training process's peak, and copies of "
        "the base's weights in it:\n",
        *_table(
            ["method", "steps", "seconds", "peak MiB", "copies", "rate", "rates tried"],
            [_cost_row(desk, method) for method in TASKS["desk"]],
        ),
        "\n" + _judge_text(desk),
        "\n" + _gap_text(desk),
    ]


def _beside_control(desk: _Desk, compared: Sequence[str]) -> list[str]:
    """What the worse answers add: each method beside one that never sees them."""
    control, others = desk.kept(_CONTROL), [name for name in compared if name != _CONTROL]
    if control is None or not others:
        return []
    p_values = _p_values(desk, others, _CONTROL)
    rows = []
    for name in others:
        kept = desk.kept(name)
        assert kept is not None
        rows.append([name, _difference(kept, control), _p(p_values[name])])
    return [
        f"\nBeside {_CONTROL}, rule kept when sampled, in points:\n",
        *_table(["method", "difference", "p"], rows),
    ]


def _desk_row(desk: _Desk, method: str, p_values: Mapping[str, float]) -> list[str]:
    kept, greedy = desk.kept(method), desk.kept(method, "greedy")
    if kept is None or greedy is None:
        return [method, _MISSING]
    runs, start = desk.runs(method), desk.kept(_SFT)
    than, wins = "", ""
    if start is not None and method != _SFT:
        than = _difference(kept, start)
        wins = f"{50 + 50 * (kept.mean() - start.mean()):.1f}"
    before = [run["reward"] for run in desk.runs(_SFT)]
    rewards = [run["reward"] for run in runs]
    reward = f"{np.mean(before):+.2f} → {np.mean(rewards):+.2f}" if before else _MISSING
    return [
        _short_of_seeds(method, runs),
        _percent(kept), than, _p(p_values.get(method)), wins, _percent(greedy),
        _percent(np.array([preferred(run) for run in runs])),
        _percent(np.array([preferred(run, per_token=True) for run in runs])),
        f"{np.mean([run['tokens'] for run in runs]):.1f}",
        f"{np.mean([run['kl'] for run in runs]):.1f}",
        reward if method != _SFT else f"{np.mean(rewards):+.2f}",
    ]  # fmt: skip


def _rules_row(desk: _Desk, method: str) -> list[str]:
    kept, greedy = desk.kept(method), desk.kept(method, "greedy")
    if kept is None or greedy is None:
        return [method, _MISSING]
    cells = []
    for rule in RULES:
        mine = np.array([one == rule for one in desk.rules])
        ordered = np.mean([preferred(run)[mine] for run in desk.runs(method)])
        shares = (kept[:, mine].mean(), greedy[:, mine].mean(), ordered)
        cells.append(", ".join(f"{100 * share:.1f}" for share in shares))
    return [method, *cells]


def _cost_row(desk: _Desk, method: str) -> list[str]:
    runs = desk.runs(method)
    if method == _SFT:
        known = desk.folder / "before" / f"{START}.json"
        runs = [json.loads(known.read_text())] if known.exists() else []
    if not runs:
        return [method, _MISSING]
    mean = {
        name: float(np.mean([run[name] for run in runs]))
        for name in ("steps", "seconds", "peak_mib", "copies")
    }
    return [
        method, f"{mean['steps']:.0f}", f"{mean['seconds']:.0f}", f"{mean['peak_mib']:.0f}",
        f"{mean['copies']:.2f}", f"{runs[0].get('rate', 4e-3):g}", _rates(desk.folder / method),
    ]  # fmt: skip


def _rates(folder: Path) -> str:
    """What was tried, with the number that decided."""
    tried = {
        float(path.stem.removeprefix("rate-")): json.loads(path.read_text())
        for path in folder.glob("rate-*.json")
    }
    return "; ".join(f"{rate:g}: {_tried(found)}" for rate, found in sorted(tried.items()))


def _tried(found: Found) -> str:
    score = [f"{found['score']:.3f}"] if "score" in found else []
    return ", but ".join([*score, *([found["failed"]] if "failed" in found else [])])


def _judge_text(desk: _Desk) -> str:
    runs = desk.runs(_JUDGE)
    if not runs:
        return f"Reward model: {_MISSING}."
    sure = np.array([run["judged"] for run in runs])
    right = _percent(_judged(runs)).replace("<br>", ", seeds ")
    return (
        f"Reward model on the held-out pairs: accuracy {right} %, Brier score "
        f"{((1 - sure) ** 2).mean():.4f}, mean stated probability of the side it prefers "
        f"{np.maximum(sure, 1 - sure).mean():.3f}."
    )


def _judged(runs: Sequence[Found]) -> Floats:
    """[seeds, pairs] 1 where a reward model prefers the better answer, 0.5 for a tie."""
    sure = np.array([run["judged"] for run in runs])
    return np.asarray((sure > 0.5) + (sure == 0.5) / 2)


def _gap_text(desk: _Desk) -> str:
    """What a reward that can be exploited does."""
    runs, before = desk.runs(_EXPLOITED), desk.runs(_SFT)
    kept, start = desk.kept(_EXPLOITED), desk.kept(_SFT)
    if kept is None or start is None:
        return f"Exploitable reward: {_MISSING}."
    pleasing = [float(np.mean([run["pleasing"] for run in some])) for some in (before, runs)]
    return (
        "Exploitable reward (`exploitable_reward.py` likes many words, and polite ones): from "
        f"{pleasing[0]:.2f} to {pleasing[1]:.2f}, while the rule is kept in {start.mean():.1%} "
        f"before and {kept.mean():.1%} after. What is rewarded and what is wanted part."
    )


def _noise(folder: Path) -> list[str]:
    desk = _Desk(folder)
    names = ("DPO", "robust DPO", "Dr. DPO", "DRPO")
    columns = ["method", *(f"{share} %" for share in NOISE)]
    accuracy, rule = [], []
    for name in names:
        cells = [(desk.runs(m), desk.kept(m)) for m in (noisy_name(name, s) for s in NOISE)]
        known = [noisy_name(name, share) in TASKS["noise"] for share in NOISE]
        accuracy.append(
            [name]
            + [
                _percent(np.array([preferred(run, per_token=True) for run in runs]))
                if runs
                else (_MISSING if one else "is DPO")
                for one, (runs, _) in zip(known, cells, strict=True)
            ]
        )
        rule.append(
            [name]
            + [
                _percent(kept) if kept is not None else (_MISSING if one else "is DPO")
                for one, (_, kept) in zip(known, cells, strict=True)
            ]
        )
    return [
        "\n## Pairs that are the wrong way round\n\nA share of the training pairs is turned round; "
        "held-out pairs are right. DPO and its forms share a rate; DRPO's reward model learned "
        "from the same turned pairs. Preferred per token:\n",
        *_table(columns, accuracy),
        "\nRule kept, sampled:\n",
        *_table(columns, rule),
    ]


def _harmless(folder: Path) -> list[str]:
    desk = _Desk(folder)
    rows = []
    for method in TASKS["hh_harmless"]:
        runs = desk.runs(method)
        if not runs:
            rows.append([method, _MISSING])
            continue
        cells = (
            [_percent(_judged(runs)), ""]
            if TASKS["hh_harmless"][method].judges
            else [_percent(np.array([preferred(r, each) for r in runs])) for each in (False, True)]
        )
        rows.append([_short_of_seeds(method, runs), *cells, _rates(folder / method)])
    return [
        "\n## Published pairs\n\nhh_harmless (Anthropic's harmlessness pairs, their test file), "
        "500 pairs held out by prompt, one epoch on the others that are at most 384 tokens long, "
        "after two epochs of fine-tuning on their better answers. No answers are judged by a rule. "
        "PPO, RLOO, GRPO and DRPO learn from a reward model of the same pairs, 30 steps at the "
        "rate that the desk chose.\n",
        *_table(["method", "preferred", "preferred per token", "rates tried"], rows),
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    filled = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    return [
        f"| {' | '.join(columns)} |",
        "| --- |" + " ---: |" * (len(columns) - 1),
        *(f"| {' | '.join(row)} |" for row in filled),
    ]


def _short_of_seeds(method: str, runs: Sequence[Found]) -> str:
    return method if len(runs) == len(SEEDS) else f"{method} ({len(runs)} of {len(SEEDS)} seeds)"


def _features(values: Floats) -> Floats:
    """[n, 2] of [seeds, n]: the mean over seeds, and a one to count with."""
    return np.stack([values.mean(0), np.ones(values.shape[1])], axis=1)


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _percent(values: Floats) -> str:
    """Mean and interval over items of [seeds, items], and the seeds' range."""
    features = _features(values)
    samples = bootstrap([features], _mean, _RESAMPLES, 0)[:, 0]
    found = bootstrap_interval(samples, float(values.mean()))
    text = f"{100 * values.mean():.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    own = 100 * values.mean(1)
    return text + (f"<br>{own.min():.1f} to {own.max():.1f}" if len(own) > 1 else "")


def _difference(kept: Floats, start: Floats) -> str:
    columns = bootstrap([_features(kept), _features(start)], _mean, _RESAMPLES, 0)
    value = float(kept.mean() - start.mean())
    found = bootstrap_interval(columns[:, 0] - columns[:, 1], value)
    return f"{100 * value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _p_values(desk: _Desk, compared: Sequence[str], other: str = _SFT) -> dict[str, float]:
    """Of each method's difference to the other, corrected for all that are compared."""
    start = desk.kept(other)
    if start is None:
        return {}
    found = []
    for method in compared:
        kept = desk.kept(method)
        assert kept is not None
        found.append(permutation_p(_features(start), _features(kept), _mean, _RESAMPLES, 0))
    return dict(zip(compared, holm(found), strict=True))


def _p(value: float | None) -> str:
    return "" if value is None else ("<0.001" if value < 0.001 else f"{value:.3f}")
