"""From pairs to a variant: the starting variant, the cached reference, evaluation, mistakes."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import AdapterError, DataError, SettingsError, VariantError
from kamerton.core.events import Event, HoldoutMeasured, Notice, StepDone
from kamerton.evaluation.results import Comparison
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant

COLOURS = ("red", "blue", "green", "white")


def pair_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"Which colour has box {n}?",
            "chosen": f"Box {n} is {COLOURS[n % 4]}.",
            "rejected": f"What a good question about box {n}!",
        }
        for n in range(count)
    ]


class Project:
    """A folder with chats, pairs and verdicts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.events: list[Event] = []
        rows = pair_rows(40)
        self.write("pairs", rows)
        self.write("chats", [{"prompt": r["prompt"], "completion": r["chosen"]} for r in rows])
        verdicts = [
            {"prompt": r["prompt"], "completion": r[side], "label": side == "chosen"}
            for r in rows
            for side in ("chosen", "rejected")
        ]
        self.write("verdicts", verdicts)

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / f"{name}.jsonl").write_text(text)

    def make(
        self, name: str, data: str | dict[str, Any], objective: dict[str, Any], **sections: Any
    ) -> Made:
        files = {"train": f"{data}.jsonl", "holdout": 0.2} if isinstance(data, str) else data
        recipe = {
            "name": name,
            "base": {"id": "builtin:nano", "dtype": "float32"},
            "data": files,
            "objective": objective,
            "train": {"epochs": 2, "learning_rate": 1e-3, "tokens_per_step": 400},
            "generation": {"max_new_tokens": 8},
            "evaluate": {"shots": 1, "resamples": 100},
            **sections,
        }
        self.events = []
        return make_variant(Recipe.parse(recipe), self.folder, self.workspace, self.events.append)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("preferences"))


@pytest.fixture(scope="module")
def desk(project: Project) -> Made:
    return project.make("desk", "chats", {"kind": "sft"})


def test_a_variant_goes_on_from_another_and_is_held_near_it(project: Project, desk: Made) -> None:
    made = project.make("better", "pairs", {"kind": "dpo"}, start_from="desk")
    first = project.of(StepDone)[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-4)
    manifest = made.variant.manifest
    assert manifest.parents == [desk.variant.manifest.content_hash]
    assert manifest.objective == "dpo"
    metrics = manifest.metrics
    assert metrics["holdout_loss"] < math.log(2)
    assert metrics["holdout_reward_accuracy"] > 0.9
    assert metrics["holdout_margin"] > 0
    assert project.of(HoldoutMeasured)[-1].metrics["reward_accuracy"] > 0.9
    assert metrics["holdout_distance"] > 0.1
    kept = list(project.workspace.references.iterdir())
    assert len(kept) == 2
    # Another objective over the same pairs asks the same reference.
    project.make("hinged", "pairs", {"kind": "dpo", "loss_type": "hinge"}, start_from="desk")
    assert len([e for e in project.of(Notice) if "computed before" in e.message]) == 2
    assert sorted(project.workspace.references.iterdir()) == sorted(kept)


def test_preference_accuracy_is_compared(project: Project, desk: Made) -> None:
    better = project.make("better", "pairs", {"kind": "dpo"}, start_from="desk").variant
    found = evaluate_variants([better], project.workspace, lambda event: None).comparison
    assert found.metrics == ("preference accuracy",)
    assert found.measure("preference accuracy", "better").value > 0.9
    # Training and evaluation give both numbers, and the same ones.
    metrics = better.manifest.metrics
    measured = found.measure("preference accuracy", "better").value
    assert measured == pytest.approx(metrics["holdout_preference_accuracy"])
    rewarded = found.cost("better").reward_accuracy
    assert rewarded == pytest.approx(metrics["holdout_reward_accuracy"])
    assert found.cost("zero-shot").reward_accuracy is None
    free = Recipe.parse(
        {
            **better.manifest.recipe,
            "evaluate": {"checks": [{"kind": "refusal"}], "max_new_tokens": 4},
        }
    ).evaluate
    asked = evaluate_variants([better], project.workspace, lambda event: None, settings=free)
    assert asked.answers[0].kind == "generated"


def test_a_variant_is_compared_with_what_it_went_on_from(project: Project, desk: Made) -> None:
    start = desk.variant
    better = project.make("better", "pairs", {"kind": "dpo"}, start_from="desk").variant
    best = project.make("best", "pairs", {"kind": "simpo"}, start_from="better").variant
    before = read_variant(start.folder).manifest

    def compared(*variants: Variant) -> Comparison:
        project.events = []
        return evaluate_variants(variants, project.workspace, project.events.append).comparison

    alone = compared(better)
    assert alone.variants == ("zero-shot", "1-shot", "desk", "better")
    assert alone.against == ("zero-shot", "1-shot", "desk")
    found = alone.difference("preference accuracy", "better", "desk")
    assert found is not None
    values = [alone.measure("preference accuracy", name).value for name in ("better", "desk")]
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.low <= found.value <= found.high
    assert found.p_value <= found.p_corrected
    # Of what was not asked for nothing is written down.
    assert read_variant(start.folder).manifest == before
    # Named or added, and in whatever order, what others went on from stands before them.
    for named in ((best, better), (better, best), (best, start, better)):
        assert compared(*named).variants[2:] == ("desk", "better", "best")
        assert compared(*named).against[2:] == ("desk", "better")
    assert not [e for e in project.of(Notice) if "went on from" in e.message]


def test_a_start_that_is_gone_or_another_now_is_not_compared(tmp_path: Path) -> None:
    project = Project(tmp_path)
    brief = {"train": {"max_steps": 2, "learning_rate": 1e-3, "tokens_per_step": 400}}
    desk = project.make("desk", "chats", {"kind": "sft"}, **brief).variant
    better = project.make("better", "pairs", {"kind": "dpo"}, start_from="desk", **brief).variant

    def notice() -> str:
        project.events = []
        found = evaluate_variants([better], project.workspace, project.events.append)
        assert found.comparison.against == ("zero-shot", "1-shot")
        (said,) = (e.message for e in project.of(Notice) if "went on from 'desk'" in e.message)
        return said

    desk.folder.rename(tmp_path / "aside")
    assert "there is no variant 'desk'" in notice()
    shutil.rmtree(project.workspace.runs)
    other = {"train": {**brief["train"], "seed": 5}}
    project.make("desk", "chats", {"kind": "sft"}, **other)
    assert "is another variant now" in notice()
    # The one that it did go on from may be named.
    kept = read_variant(tmp_path / "aside")
    found = evaluate_variants([better, kept], project.workspace, project.events.append)
    assert found.comparison.against == ("zero-shot", "1-shot", "desk")


@pytest.mark.parametrize(
    ("data", "kind"), [("pairs", "dpo"), ("verdicts", "kto"), ("pairs", "reward")]
)
def test_preferences_have_worked_examples_too(project: Project, data: str, kind: str) -> None:
    made = project.make(
        f"shown-{kind}", data, {"kind": kind}, prompt={"demonstrations": 3},
        train={"max_steps": 3, "learning_rate": 1e-3, "tokens_per_step": 1000},
    )  # fmt: skip
    demonstrations = made.variant.manifest.prompt["demonstrations"]
    assert len(demonstrations) == 3
    assert all(answer["content"].startswith("Box ") for _, answer in demonstrations)
    # Of a reward model's baselines, the more probable answer counts as the preferred one.
    found = evaluate_variants(
        [made.variant], project.workspace, lambda event: None,
        data=str(project.folder / "pairs.jsonl"),
    ).comparison  # fmt: skip
    zero, few, _ = found.costs
    assert found.variants == ("zero-shot", "1-shot", f"shown-{kind}")
    assert zero.holdout_loss != few.holdout_loss


@pytest.mark.parametrize(
    "objective",
    [{"kind": "simpo"}, {"kind": "orpo"}, {"kind": "orpo", "nll_over": "everything"}],
    ids=lambda objective: "-".join(objective.values()),
)
def test_others_need_no_reference(project: Project, objective: dict[str, Any]) -> None:
    before = set(project.workspace.references.glob("*"))
    made = project.make("-".join(objective.values()), "pairs", objective)
    metrics = made.variant.manifest.metrics
    assert metrics["holdout_reward_accuracy"] > 0.8
    assert metrics["holdout_loss"] < metrics["holdout_loss_base"]
    assert set(project.workspace.references.glob("*")) == before


@pytest.mark.parametrize("data", ["verdicts", "pairs"])
def test_kto_learns_from_verdicts_and_from_pairs(project: Project, data: str) -> None:
    made = project.make(f"kto-{data}", data, {"kind": "kto"})
    metrics = made.variant.manifest.metrics
    assert metrics["holdout_desirable_change"] > metrics["holdout_undesirable_change"]
    # What `next:` names after training.
    found = evaluate_variants([made.variant], project.workspace, lambda event: None).comparison
    metric = "liked above disliked" if data == "verdicts" else "preference accuracy"
    assert found.metrics == (metric,)
    measured = found.measure(metric, made.variant.name).value
    assert measured > 0.9
    if data == "verdicts":
        assert measured == pytest.approx(metrics["holdout_liked_above_disliked"], abs=1e-6)
    assert found.cost(made.variant.name).holdout_loss is not None


def test_kto_measures_on_a_holdout_of_one_liked_prompt(project: Project) -> None:
    """Of twelve questions with five liked answers each, the holdout holds one question."""
    rows = [
        {"prompt": f"Is box {n % 12} here?", "completion": f"Yes, {n} left.", "label": True}
        for n in range(60)
    ]
    project.write("liked", rows)
    brief = {"train": {"max_steps": 1, "tokens_per_step": 400, "learning_rate": 1e-3}}
    made = project.make("liked", "liked", {"kind": "kto"}, **brief)
    assert "holdout_desirable_change" in made.variant.manifest.metrics
    notices: list[Event] = []
    found = evaluate_variants([made.variant], project.workspace, notices.append)
    assert found.comparison.metrics == ("loss", "chrF", "length", "exact")
    assert any("all held-out answers are liked" in str(event) for event in notices)


def test_questions_of_feedback_are_asked_once(project: Project) -> None:
    brief = {"train": {"max_steps": 1, "tokens_per_step": 400, "learning_rate": 1e-3}}
    variant = project.make("kto-asked", "verdicts", {"kind": "kto"}, **brief).variant
    checks = [{"kind": "refusal"}, {"kind": "exact"}]
    free = Recipe.parse(
        {**variant.manifest.recipe, "evaluate": {"checks": checks, "max_new_tokens": 4, "shots": 0}}
    ).evaluate
    asked = evaluate_variants([variant], project.workspace, lambda event: None, settings=free)
    chats = [repr(item.chat) for item in asked.items]
    assert len(set(chats)) == len(chats) < variant.manifest.data.num_holdout
    assert all(item.is_desirable for item in asked.items)
    assert asked.comparison.metrics == ("refusal", "exact", "loss")


def test_new_tokens_that_begin_otherwise_have_another_reference(project: Project) -> None:
    """Their ids are the same, their texts are not."""
    brief = {"train": {"max_steps": 1, "tokens_per_step": 400}}
    project.write("named", [{**r, "chosen": f"{r['chosen']} <a><b>"} for r in pair_rows(20)])
    for words in (["<a>", "<b>"], ["<b>", "<a>"]):
        adapter = {"kind": "lora", "rank": 4, "new_tokens": words}
        project.make(words[0].strip("<>"), "named", {"kind": "dpo"}, adapter=adapter, **brief)
        assert project.of(StepDone)[0].loss == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("kind", ["dpo", "simpo", "orpo"])
def test_how_far_it_went_from_its_start_is_measured(
    project: Project, desk: Made, kind: str
) -> None:
    brief = {"train": {"max_steps": 3, "learning_rate": 1e-3, "tokens_per_step": 400}}
    made = project.make(f"far-{kind}", "pairs", {"kind": kind}, start_from="desk", **brief)
    assert made.variant.manifest.metrics["holdout_distance"] > 0


def test_a_run_that_leaves_its_start_as_it_was_is_an_error(project: Project, desk: Made) -> None:
    still = {"train": {"max_steps": 2, "learning_rate": 1e-30, "tokens_per_step": 400}}
    with pytest.raises(AdapterError, match="leaves 'desk' as it was"):
        project.make("still", "pairs", {"kind": "dpo"}, start_from="desk", **still)


def test_a_damaged_cache_is_computed_again(project: Project, desk: Made) -> None:
    project.make("again", "pairs", {"kind": "dpo"}, start_from="desk")
    for path in project.workspace.references.iterdir():
        path.write_text("[")
    project.make("once-more", "pairs", {"kind": "dpo"}, start_from="desk")
    assert not [e for e in project.of(Notice) if "computed before" in e.message]


def test_answers_that_become_less_probable_are_explained(project: Project, desk: Made) -> None:
    harsh = {"epochs": 8, "learning_rate": 2e-2, "tokens_per_step": 400}
    objective = {"kind": "dpo", "beta": 0.01}
    made = project.make("harsh", "pairs", objective, start_from="desk", train=harsh)
    assert made.variant.manifest.metrics["holdout_chosen_change"] < -1
    assert any("less probable too" in event.message for event in project.of(Notice))


@pytest.mark.parametrize(
    ("data", "objective", "sections", "error", "said"),
    [
        ("chats", {"kind": "dpo"}, {}, DataError, "a better and a worse answer"),
        ("pairs", {"kind": "sft"}, {}, DataError, '"dpo", "simpo" or "orpo", to "reward"'),
        ("pairs", {"kind": "sft"}, {}, DataError, '"rloo", "grpo", "ppo" or "drpo"'),
        ("verdicts", {"kind": "sft"}, {}, DataError, '"kto", or to "rloo", "grpo" or "ppo"'),
        ("chats", {"kind": "kto"}, {}, DataError, "answers with a verdict"),
        (
            "pairs", {"kind": "dpo"}, {"start_from": "dsk"}, VariantError,
            "did you mean 'desk'",
        ),
        (
            "pairs", {"kind": "dpo"}, {"adapter": {"kind": "fusion", "variants": ["dsk", "desk"]}},
            VariantError, "adapter.variants: there is no variant 'dsk'",
        ),
        ("pairs", {"kind": "dpo"}, {"start_from": "wrong"}, VariantError, "the recipe's own name"),
        (
            "pairs", {"kind": "dpo"}, {"start_from": "desk", "adapter": {"kind": "ia3"}},
            SettingsError, "has its adapter",
        ),
    ],
)  # fmt: skip
def test_mistakes(project, desk, data, objective, sections, error, said) -> None:
    with pytest.raises(error) as raised:
        project.make("wrong", data, objective, **sections)
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_impossible_forms_are_refused() -> None:
    for objective, said in (
        ({"loss_type": "robust"}, "needs label_smoothing"),
        ({"loss_type": "ipo", "label_smoothing": 0.1}, "has no label_smoothing"),
        ({"temperature": 5}, 'temperature belongs to robustness = "dr-dpo"'),
        ({"kind": "reward", "dimensions": 4}, 'model = "bradley-terry" has no dimensions'),
        (
            {"kind": "reward", "model": "general", "center_rewards": 3},
            'model = "general" has no center_rewards',
        ),
    ):
        recipe = {"name": "x", "data": {"train": "x"}, "objective": {"kind": "dpo", **objective}}
        with pytest.raises(SettingsError, match=said):
            Recipe.parse(recipe)
