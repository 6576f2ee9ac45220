"""Which method fits: one table of what each needs and gives, read by a few rules.

`METHODS` is the table, `GUIDANCE` what is common advice by team and job; `advise` applies both.
Numbers come from the page or result that is named beside them; least numbers of examples are rules
of thumb, and so is the common guidance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kamerton.advisor.kinds import TaskKind
from kamerton.core.wording import counted

__all__ = [
    "GUIDANCE",
    "METHODS",
    "AdapterKind",
    "Advice",
    "Aim",
    "Guidance",
    "Method",
    "Must",
    "Situation",
    "Team",
    "advise",
    "guidance_for",
]

Aim = Literal["once", "lasting", "critical"]
Must = Literal["switch", "merge"]
Team = Literal["any", "small", "middle", "large"]
AdapterKind = Literal["none", "lora", "prefix", "bottleneck", "full"]

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
        adapter: What learns.
        objective: What training minimises, as a recipe calls it.
        work: Time of a step beside that of LoRA fine-tuning on the same tokens, for pairs beside
            that of ORPO: by the number of multiplications, or as measured where `why` or the page
            says so. None where nothing is trained or nobody can say.
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
    adapter: AdapterKind
    objective: str
    work: float | None
    needs_gpu: bool
    why: str
    source: str


def _ranks(once: int, lasting: int, critical: int) -> Mapping[Aim, int]:
    return {"once": once, "lasting": lasting, "critical": critical}


METHODS: tuple[Method, ...] = (
    Method(
        "few-shot prompt", 'adapter.kind = "none", prompt.demonstrations = 4',
        _ANSWERS, 4, _ranks(1, 5, 6), True, False, "none", "", None, False,
        "nothing is trained and it is changed in a minute, but every request pays for the "
        "examples; on SmolLM2 4 examples had a loss of 2.58 on 20 labels, LoRA 0.23",
        "docs/decisions/0011-defaults.md",
    ),
    Method(
        "LoRA", 'adapter.kind = "lora"',
        (*_ANSWERS, *_TEXTS), 20, _ranks(3, 1, 1), True, True, "lora", "sft", 1.0, False,
        "on SmolLM2 its loss was smaller than that of a prefix and of demonstrations on all three "
        "tasks; it merges and switches",
        "docs/decisions/0011-defaults.md",
    ),
    Method(
        "prefix", 'adapter.kind = "prefix"',
        (*_ANSWERS, *_TEXTS), 20, _ranks(2, 2, 3), True, False, "prefix", "sft", 1.0, False,
        "it is the cheapest to switch: 64 of them served at 96 % of the base's speed; it came near "
        "LoRA on rewriting and had twice its loss on labels",
        "docs/decisions/0011-defaults.md, "
        "benchmarks/results/serving_smollm2_cpu2-avx512_2026-11-30.md",
    ),
    Method(
        "bottleneck", 'adapter.kind = "bottleneck"',
        (*_ANSWERS, *_TEXTS), 200, _ranks(5, 3, 4), True, False, "bottleneck", "sft", 1.0, False,
        "take it to go on from AdapterHub's; with default rates it learned far less than LoRA on "
        "20 labels (1.72 and 0.62 on the bundled base)",
        "benchmarks/results/defaults_cpu2-avx512_2026-11-30.md",
    ),
    Method(
        "all weights", 'adapter.kind = "full", parts = ["all"]',
        (*_ANSWERS, *_TEXTS), 1_000, _ranks(6, 4, 2), False, True, "full", "sft", 1.5, True,
        "it is the ceiling: 51 % of 77 topics after 1,000 examples on the bundled base, rsLoRA "
        "33 %; one copy of the base for each variant",
        "docs/methods.md",
    ),
    Method(
        "ORPO + LoRA", 'objective.kind = "orpo"',
        _PAIRS, 100, _ranks(1, 1, 3), True, True, "lora", "orpo", 1.0, False,
        "one run from the base, without a reference: 87 % of greedy answers kept the desk's rules, "
        "fine-tuning 82 %",
        "docs/preferences.md",
    ),
    Method(
        "LoRA on the better answers", 'data.columns = { prompt = ..., completion = "chosen" }',
        _PAIRS, 50, _ranks(2, 2, 2), True, True, "lora", "sft", 0.8, False,
        "where the better answers are exactly those that are wanted it does as well as any "
        "preference method: 73 % of the answers kept the rules, DPO 67 %",
        "docs/preferences.md",
    ),
    Method(
        "DPO + LoRA", 'objective.kind = "dpo", start_from = ...',
        _PAIRS, 200, _ranks(4, 4, 1), True, True, "lora", "dpo", 1.35, False,
        "the reference holds the model near a tested start, which counts where errors are dear; a "
        "step takes 1.36 times that of fine-tuning in a single epoch, less in several",
        "docs/preferences.md, benchmarks/results/preference_cost_small_cpu2-amx_2026-11-28.md",
    ),
    Method(
        "SimPO + LoRA", 'objective.kind = "simpo", start_from = ...',
        _PAIRS, 200, _ranks(3, 3, 5), True, True, "lora", "simpo", 1.07, False,
        "no reference to compute, and long answers are not favoured; 66 % kept the rules, DPO 65 %",
        "docs/preferences.md",
    ),
    Method(
        "KTO + LoRA", 'objective.kind = "kto"',
        ("thumbs",), 100, _ranks(1, 1, 1), True, True, "lora", "kto", 1.3, False,
        "it learns from single thumbs, also many more of one kind: 68 % of the answers kept the "
        "rules, 43 % before",
        "docs/preferences.md",
    ),
    Method(
        "DRPO + LoRA", 'objective.kind = "reward", then "drpo"',
        _PAIRS, 1_000, _ranks(7, 7, 4), True, True, "lora", "drpo", None, True,
        "it is right if either its preference model or its reference is, and it also learns from "
        "its own answers; with the same pairs it kept the rules in 60 % of them, DPO 65 %",
        "docs/rewards.md, docs/preferences.md",
    ),
    Method(
        "reward model + PPO", 'objective.kind = "reward", then "ppo" or "rloo"',
        _PAIRS, 1_000, _ranks(6, 6, 6), True, True, "lora", "ppo", None, True,
        "three runs, and the model writes its own answers; with the same pairs PPO kept the rules "
        "in 58 % of the answers, RLOO 65 %, DPO 65 %",
        "docs/preferences.md",
    ),
    Method(
        "pseudo-labels", "kamerton label FILE --teacher VARIANT --gold LABELLED",
        _TEXTS, 500, _ranks(2, 2, 2), True, True, "lora", "sft", None, False,
        "where the texts are cases of a task, a teacher labels them; some hundred rows labelled by "
        "people show which labels are good enough to learn from",
        "docs/labels.md",
    ),
    Method(
        "distillation", 'objective.kind = "distillation"',
        (*_TEXTS, *_ANSWERS), 200, _ranks(6, 6, 5), True, True, "lora", "distillation", 1.3, False,
        "a small base learns what a teacher says at every token: a larger variant, or a long "
        "prompt; it needs that teacher, and of texts alone the labels that it gives them",
        "docs/distillation.md",
    ),
)  # fmt: skip
"""The table, in no order: `rank` decides."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """What is commonly advised to a team or for a job.

    Attributes:
        applies: Tells from the situation whether it is meant.
        sentence: The advice.
        methods: Names of the methods that it puts first, in this order.
    """

    applies: Callable[["Situation"], bool]
    sentence: str
    methods: tuple[str, ...]


GUIDANCE: tuple[Guidance, ...] = (
    Guidance(
        lambda situation: situation.aim == "once",
        "a one-off job: a prompt, nothing trained",
        ("few-shot prompt",),
    ),
    Guidance(
        lambda situation: situation.kind == "texts" and situation.num_examples >= _MUCH,
        "much unlabelled text: pseudo-labels and distillation",
        ("pseudo-labels", "distillation"),
    ),
    Guidance(
        lambda situation: situation.team == "small",
        "a small team: LoRA, prefix or ORPO on one or two GPUs",
        ("LoRA", "prefix", "ORPO + LoRA"),
    ),
    Guidance(
        lambda situation: situation.team == "middle",
        "a middle team: SimPO, and DPO with LoRA",
        ("SimPO + LoRA", "DPO + LoRA"),
    ),
    Guidance(
        lambda situation: situation.team == "large" and situation.aim == "critical",
        "a large team and a critical job: LoRA and its kin, with DPO, DRPO or a reward model",
        ("DPO + LoRA", "DRPO + LoRA", "reward model + PPO"),
    ),
)
"""Common guidance; the first that applies puts its methods first, if they fit. What was measured
here does not always agree with it: `why` says what was."""

_MUCH = 1_000


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
        team: How large the team is that will keep it.
    """

    kind: TaskKind
    num_examples: int
    has_gpu: bool
    is_small: bool
    aim: Aim = "lasting"
    must: tuple[Must, ...] = ()
    team: Team = "any"


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
    guidance = guidance_for(situation)
    first = guidance.methods if guidance else ()

    def place(advice: Advice) -> tuple[bool, int, int]:
        name = advice.method.name
        guided = first.index(name) if name in first else len(first)
        return not advice.fits, guided, advice.method.rank[situation.aim]

    return sorted((_judge(method, situation) for method in METHODS), key=place)


def guidance_for(situation: Situation) -> Guidance | None:
    """Choose the common guidance for a situation.

    Args:
        situation: What there is, and what is wanted.

    Returns:
        The first that applies; None where none does.
    """
    return next((one for one in GUIDANCE if one.applies(situation)), None)


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
    if method.learns_from == _TEXTS:
        return "it learns from unlabelled texts; with some beside these rows: kamerton label"
    return "it learns from answers to imitate, and these rows are none"
