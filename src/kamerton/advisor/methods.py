"""Which method fits: one table of what each needs and gives, read by a few rules.

`METHODS` is the table; `advise` applies it. Numbers in it come from the page or result that is
named beside them; least numbers of examples are rules of thumb.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kamerton.advisor.kinds import TaskKind
from kamerton.core.wording import counted

__all__ = ["METHODS", "Advice", "Aim", "Method", "Must", "Situation", "advise"]

Aim = Literal["once", "lasting", "critical"]
Must = Literal["switch", "merge"]

_TEXTS: tuple[TaskKind, ...] = ("texts",)
_ANSWERS: tuple[TaskKind, ...] = (
    "classes", "several classes", "fields", "rewriting", "answers", "dialogues",
)  # fmt: skip
_PAIRS: tuple[TaskKind, ...] = ("pairs",)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: what it needs, and what is known of it.

    Attributes:
        name: Its name.
        setting: What a recipe says for it.
        learns_from: Kinds of task that it learns from.
        least: Fewest examples, a rule of thumb.
        rank: Aim to its place among the methods, 1 is tried first.
        switches: Whether one server changes between such variants from request to request.
        merges: Whether it can become a part of the base's weights.
        trained: Share of a base of 8 and of 0.6 billion weights that learns.
        needs_gpu: Whether it takes too long without a GPU over any base but a bundled one.
        why: What speaks for it, in a sentence.
        source: Where that is measured or explained.
    """

    name: str
    setting: str
    learns_from: tuple[TaskKind, ...]
    least: int
    rank: Mapping[Aim, int]
    switches: bool
    merges: bool
    trained: str
    needs_gpu: bool
    why: str
    source: str


def _ranks(once: int, lasting: int, critical: int) -> Mapping[Aim, int]:
    return {"once": once, "lasting": lasting, "critical": critical}


METHODS: tuple[Method, ...] = (
    Method(
        "few-shot prompt", 'adapter.kind = "none", prompt.demonstrations = 4',
        _ANSWERS, 4, _ranks(1, 5, 6), True, False, "0 %", False,
        "nothing is trained and it is changed in a minute, but every request pays for the "
        "examples; on SmolLM2 4 examples had a loss of 2.58 on 20 labels, LoRA 0.23",
        "docs/decisions/0011-defaults.md",
    ),
    Method(
        "LoRA", 'adapter.kind = "lora"',
        (*_ANSWERS, *_TEXTS), 20, _ranks(3, 1, 1), True, True, "0.5 to 1.7 %", False,
        "on SmolLM2 its loss was smaller than that of a prefix and of demonstrations on all three "
        "tasks; it merges and switches",
        "docs/decisions/0011-defaults.md",
    ),
    Method(
        "prefix", 'adapter.kind = "prefix"',
        (*_ANSWERS, *_TEXTS), 20, _ranks(2, 2, 3), True, False, "0.03 to 0.3 %", False,
        "it is the cheapest to switch: 64 of them served at 96 % of the base's speed; it came near "
        "LoRA on rewriting and had twice its loss on labels",
        "docs/decisions/0011-defaults.md, "
        "benchmarks/results/serving_smollm2_cpu2-avx512_2026-11-30.md",
    ),
    Method(
        "bottleneck", 'adapter.kind = "bottleneck"',
        (*_ANSWERS, *_TEXTS), 200, _ranks(5, 3, 4), True, False, "0.6 to 1.8 %", False,
        "take it to go on from AdapterHub's; with default rates it learned far less than LoRA on "
        "20 labels (1.72 and 0.62 on the bundled base)",
        "benchmarks/results/defaults_cpu2-avx512_2026-11-30.md",
    ),
    Method(
        "all weights", 'adapter.kind = "full", parts = ["all"]',
        (*_ANSWERS, *_TEXTS), 1_000, _ranks(6, 4, 2), False, True, "100 %", True,
        "it is the ceiling: 51 % of 77 topics after 1,000 examples on the bundled base, rsLoRA "
        "33 %; one copy of the base for each variant",
        "docs/methods.md",
    ),
    Method(
        "ORPO + LoRA", 'objective.kind = "orpo"',
        _PAIRS, 100, _ranks(1, 1, 3), True, True, "0.5 to 1.7 %", False,
        "one run from the base, without a reference: 87 % of greedy answers kept the desk's rules, "
        "fine-tuning 82 %",
        "docs/preferences.md",
    ),
    Method(
        "LoRA on the better answers", 'data.columns = { prompt = ..., completion = "chosen" }',
        _PAIRS, 50, _ranks(2, 2, 2), True, True, "0.5 to 1.7 %", False,
        "where the better answers are exactly those that are wanted it does as well as any "
        "preference method: 73 % of the answers kept the rules, DPO 67 %",
        "docs/preferences.md",
    ),
    Method(
        "DPO + LoRA", 'objective.kind = "dpo", start_from = ...',
        _PAIRS, 200, _ranks(4, 4, 1), True, True, "0.5 to 1.7 %", False,
        "the reference holds the model near a tested start, which counts where errors are dear; a "
        "step takes 1.36 times that of fine-tuning in a single epoch, less in several",
        "docs/preferences.md, benchmarks/results/preference_cost_small_cpu2-amx_2026-11-28.md",
    ),
    Method(
        "SimPO + LoRA", 'objective.kind = "simpo", start_from = ...',
        _PAIRS, 200, _ranks(3, 3, 4), True, True, "0.5 to 1.7 %", False,
        "no reference to compute, and long answers are not favoured; 66 % kept the rules, DPO 65 %",
        "docs/preferences.md",
    ),
    Method(
        "KTO + LoRA", 'objective.kind = "kto"',
        ("thumbs",), 100, _ranks(1, 1, 1), True, True, "0.5 to 1.7 %", False,
        "it learns from single thumbs, also many more of one kind: 68 % of the answers kept the "
        "rules, 43 % before",
        "docs/preferences.md",
    ),
    Method(
        "reward model + PPO", 'objective.kind = "reward", then "ppo" or "rloo"',
        _PAIRS, 1_000, _ranks(6, 6, 5), True, True, "0.5 to 1.7 %", True,
        "three runs, and the model writes its own answers; with the same pairs PPO kept the rules "
        "in 58 % of the answers, RLOO 65 %, DPO 65 %",
        "docs/preferences.md",
    ),
)  # fmt: skip
"""The table, in no order: `rank` decides."""

_MISSING = Method(
    "pseudo-labels", "not there yet", (), 0, _ranks(9, 9, 9), True, True, "as LoRA", False, "",
    "docs/design.md",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is, and what is wanted.

    Attributes:
        kind: The kind of task.
        num_examples: Usable examples.
        has_gpu: Whether this machine has a GPU.
        is_small: Whether the base is a bundled one.
        aim: A one-off job, something that lasts, or something in which errors are dear.
        must: What the variant must be able to do.
    """

    kind: TaskKind
    num_examples: int
    has_gpu: bool
    is_small: bool
    aim: Aim = "lasting"
    must: tuple[Must, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """What is said of a method.

    Attributes:
        method: The method.
        fits: Whether it fits.
        why: What speaks for it, or what speaks against it, in a sentence.
    """

    method: Method
    fits: bool
    why: str


def advise(situation: Situation) -> Sequence[Advice]:
    """Rank the methods.

    Args:
        situation: What there is, and what is wanted.

    Returns:
        Those that fit, the first to try first; then the others with the reason.
    """
    judged = [_judge(method, situation) for method in METHODS]
    judged.sort(key=lambda advice: (not advice.fits, advice.method.rank[situation.aim]))
    planned = "Kamerton does not label unlabelled texts yet"
    return [*judged, Advice(_MISSING, False, planned)]


def _judge(method: Method, situation: Situation) -> Advice:
    """Apply the rules in order; the first that is broken is said."""
    against = (
        (situation.kind not in method.learns_from, _other_data(method)),
        ("switch" in situation.must and not method.switches, "it cannot be switched by request"),
        ("merge" in situation.must and not method.merges, "it cannot be merged into the base"),
        (
            situation.num_examples < method.least,
            f"{counted(situation.num_examples, 'example')}: it wants about {method.least:,}",
        ),
        (
            method.needs_gpu and not situation.has_gpu and not situation.is_small,
            "it takes too long without a GPU, and there is none here",
        ),
    )
    broken = next((reason for is_broken, reason in against if is_broken), "")
    return Advice(method, not broken, broken or method.why)


def _other_data(method: Method) -> str:
    if method.learns_from == _PAIRS:
        return (
            "it learns from pairs of a better and a worse answer; kamerton chat A B collects them"
        )
    if method.learns_from == ("thumbs",):
        return "it learns from thumbs; kamerton feedback export makes rows of them"
    return "it learns from answers to imitate, and these rows are none"
