"""Learning from own answers, whole runs: rewards rise, runs resume exactly, mistakes are named."""

from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import (
    AdapterError,
    DataError,
    InterruptedRun,
    SettingsError,
    TrainingError,
    VariantError,
)
from kamerton.core.events import HoldoutMeasured, Notice, RunStarted, StepDone
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from tests.unit.flows.test_preferences import Project, pair_rows

pytestmark = pytest.mark.filterwarnings("error")

BLUE = {"kind": "function", "function": "rewards.py:blue"}
FUNCTIONS = """
def blue(messages, answer, row):
    return float("blue" in answer)
"""
TRAIN = {"epochs": 3, "learning_rate": 3e-3, "tokens_per_step": 500}


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def own(kind: str, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, "rewards": [BLUE], "max_tokens": 12, "num_generations": 4, **settings}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("online"))
    (made.folder / "rewards.py").write_text(FUNCTIONS)
    return made


@pytest.fixture(scope="module")
def desk(project: Project) -> Made:
    return project.make(
        "desk", "chats", {"kind": "sft"},
        train={"epochs": 12, "learning_rate": 5e-3, "tokens_per_step": 400},
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "rate"), [("rlhf", 3e-3), slow("grpo", 3e-3), slow("ppo", 1e-3)])
def test_rewards_rise(project: Project, desk: Made, kind: str, rate: float) -> None:
    train = {**TRAIN, "learning_rate": rate}
    made = project.make(f"desk-{kind}", "chats", own(kind), start_from="desk", train=train)
    metrics = made.variant.manifest.metrics
    assert metrics["holdout_reward_before"] < 0.3
    assert metrics["holdout_reward"] > 0.6
    assert metrics["holdout_kl"] > 0
    first, *_, last = project.of(StepDone)
    assert first.metrics["kl"] == pytest.approx(0.0, abs=1e-3)
    assert first.metrics["rollout_gap"] < 2e-3
    assert last.metrics["reward"] > first.metrics["reward"]
    assert {"length", "ended", "clipped"} <= last.metrics.keys()
    kept = [event for event in project.of(HoldoutMeasured) if event.best][-1]
    assert kept.metrics["reward"] == metrics["holdout_reward"]
    (said,) = [e.message for e in project.of(Notice) if "mean reward of held-out" in e.message]
    assert f"{metrics['holdout_reward']:.3f} now" in said
    assert project.of(RunStarted)[0].facts["rollout_gap"] < 2e-3
    assert made.variant.manifest.parents == [desk.variant.manifest.content_hash]
    # The value model is no part of what is kept.
    assert not [name for name in made.variant.files() if "head" in name or "critic" in name]
    assert all("critic" not in str(part) for part in made.variant.files().values())


@pytest.mark.parametrize("model", ["bradley-terry", slow("general")])
def test_drpo_learns_from_pairs_and_from_own_answers(project: Project, model: str) -> None:
    rows = [
        {"prompt": row["prompt"], "completion": row[side]}
        for row in pair_rows(40)
        for side in ("chosen", "rejected")
    ]
    project.write("both", rows)
    train = {"epochs": 8, "learning_rate": 5e-3, "tokens_per_step": 400}
    project.make("talker", "both", {"kind": "sft"}, train=train)
    project.make(f"judge-{model}", "pairs", {"kind": "reward", "model": model})
    rewards = [{"kind": "variant", "variant": f"judge-{model}"}]
    objective = own("drpo", rewards=rewards, num_generations=2)
    train = {**TRAIN, "epochs": 2}
    made = project.make(f"drpo-{model}", "pairs", objective, start_from="talker", train=train)
    first, *_, last = project.of(StepDone)
    assert first.metrics["ratio_clipped"] == 0.0
    assert {"reward", "k3"} <= last.metrics.keys()
    metrics = made.variant.manifest.metrics
    assert metrics["holdout_reward"] > metrics["holdout_reward_before"]
    assert metrics["holdout_kl"] > 0
    assert len(made.variant.manifest.parents) == 2


def test_without_a_start_the_reference_is_the_base(project: Project) -> None:
    no_vowels = {"name": "no vowels", "pattern": "[aeiou]", "must": False}
    rule = {"kind": "rules", "rules": [no_vowels]}
    check = {"kind": "check", "check": rule}
    objective = own("rloo", rewards=[check], missing_eos_penalty=0.0)
    made = project.make("bare", "pairs", objective, train={**TRAIN, "epochs": 1})
    metrics = made.variant.manifest.metrics
    assert project.of(StepDone)[0].metrics["kl"] == pytest.approx(0.0, abs=1e-3)
    assert 0 <= metrics["holdout_reward_before"] <= 1
    assert metrics["holdout_kl"] != 0


@pytest.mark.slow
def test_a_distance_that_costs_much_is_small(project: Project, desk: Made) -> None:
    train = {**TRAIN, "epochs": 1}
    near = project.make("near", "chats", own("rloo", beta=5.0), start_from="desk", train=train)
    far = project.make("far", "chats", own("rloo", beta=0.0), start_from="desk", train=train)
    metrics = near.variant.manifest.metrics
    assert metrics["holdout_kl"] < far.variant.manifest.metrics["holdout_kl"] / 2


@pytest.mark.parametrize("kind", ["rloo", slow("ppo")])
def test_a_stopped_run_ends_with_the_same_bits(
    project: Project, desk: Made, kind: str, tmp_path: Path
) -> None:
    def make(name: str, stop_after: int | None = None) -> Made:
        recipe = Recipe.parse(
            {
                "name": name,
                "base": {"id": "builtin:nano", "dtype": "float32"},
                "start_from": "desk",
                "data": {"train": "chats.jsonl", "holdout": 0.2},
                "objective": own(kind, num_iterations=2),
                "train": {**TRAIN, "epochs": 1},
            }
        )
        steps: list[int] = []

        def sink(event: object) -> None:
            if isinstance(event, StepDone):
                steps.append(event.step)

        return make_variant(
            recipe, project.folder, project.workspace, sink,
            should_stop=lambda: len(steps) == stop_after,
        )  # fmt: skip

    whole = make(f"whole-{kind}")
    with pytest.raises(InterruptedRun):
        make(f"cut-{kind}", stop_after=2)
    went_on = make(f"cut-{kind}")
    assert went_on.variant.manifest.content_hash == whole.variant.manifest.content_hash
    told = (went_on.variant.manifest.metrics, whole.variant.manifest.metrics)
    for metrics in told:
        metrics.pop("train_seconds")
    assert told[0] == told[1]


def test_a_changed_reward_function_is_another_run(project: Project, desk: Made) -> None:
    path = project.folder / "changing.py"
    path.write_text("def score(messages, answer, row):\n    return 0.0\n")
    rewards = [{"kind": "function", "function": "changing.py:score"}]
    recipe = {"start_from": "desk", "train": {**TRAIN, "max_steps": 2}}
    project.make("changing", "chats", own("rloo", rewards=rewards), **recipe)
    path.write_text("def score(messages, answer, row):\n    return float(len(answer))\n")
    with pytest.raises(TrainingError, match="rewards"):
        project.make("changing", "chats", own("rloo", rewards=rewards), **recipe)


@pytest.mark.parametrize(
    ("data", "objective", "error", "said"),
    [
        ("chats", {"kind": "rloo"}, SettingsError, "objective.rewards"),
        ("chats", own("rloo", num_generations=1), SettingsError, "objective.num_generations"),
        ("chats", own("rloo", rewards=[]), SettingsError, "objective.rewards"),
        ("chats", own("drpo"), DataError, "prompts with a better and a worse answer"),
        (
            "chats", own("rloo", rewards=[{"kind": "variant", "variant": "desk"}]),
            VariantError, "is no reward model",
        ),
        ("chats", own("rloo", max_tokens=5000), SettingsError, "objective.max_tokens"),
        ("chats", own("rloo", rewards=[{**BLUE, "weight": 0}]), SettingsError, "leave the source"),
        (
            "chats", own("rloo", rewards=[{"kind": "judge", "question": "Is it good?"}]),
            SettingsError, "must hold {answer}",
        ),
        (
            "chats",
            own("rloo", rewards=[{"kind": "check", "check": {"kind": "contains", "field": "x"}}]),
            SettingsError, "column 'x'",
        ),
        (
            "chats", own("rloo", rewards=[{"kind": "function", "function": "rewards.py"}]),
            SettingsError, "rewards.py:score",
        ),
    ],
)  # fmt: skip
def test_mistakes(
    project: Project, desk: Made, data: str, objective: dict[str, Any], error: type, said: str
) -> None:
    with pytest.raises(error) as raised:
        project.make("wrong", data, objective, start_from="desk", train=TRAIN)
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_dropout_of_the_start_stays_off(project: Project) -> None:
    adapter = {"kind": "lora", "rank": 8, "dropout": 0.3}
    train = {**TRAIN, "max_steps": 2}
    project.make("dropping", "chats", {"kind": "sft"}, adapter=adapter, train=train)
    project.make("own", "chats", own("rloo"), start_from="dropping", train=train)
    assert project.of(StepDone)[0].metrics["clipped"] == 0.0
    assert any("adapter.dropout is off" in event.message for event in project.of(Notice))


def test_what_can_teach_nothing_is_warned_of(project: Project, desk: Made) -> None:
    rewards = [{"kind": "check", "check": {"kind": "json"}}]
    train = {**TRAIN, "max_steps": 1, "tokens_per_step": 30}
    with pytest.raises(AdapterError, match="leaves 'desk' as it was"):
        project.make("flat", "chats", own("rloo", rewards=rewards), start_from="desk", train=train)
    said = [event.message for event in project.of(Notice) if event.level == "warning"]
    assert any("the first answers are all worth the same, 0:" in message for message in said)
    assert any("one question a step" in message for message in said)


def test_a_failing_reward_loses_no_step(project: Project, desk: Made) -> None:
    path = project.folder / "failing.py"
    path.write_text(
        "calls = []\n"
        "def score(messages, answer, row):\n"
        "    calls.append(answer)\n"
        "    return float(len(answer)) if len(calls) < 100 else 1 / 0\n"
    )
    rewards = [{"kind": "function", "function": "failing.py:score"}]
    recipe = {"start_from": "desk", "train": {**TRAIN, "max_steps": 6}}
    with pytest.raises(TrainingError, match="ZeroDivisionError"):
        project.make("failing", "chats", own("rloo", rewards=rewards), **recipe)
    done = project.of(StepDone)[-1].step
    with pytest.raises(TrainingError, match="ZeroDivisionError"):
        project.make("failing", "chats", own("rloo", rewards=rewards), **recipe)
    assert project.of(RunStarted)[0].first_step == done > 0
    done = project.of(StepDone)[-1].step
    assert f"the state after step {done} is saved" in project.of(Notice)[-1].message
    path.write_text(path.read_text().replace(" else 1 / 0", " else 0.0"))
    project.make("failing", "chats", own("rloo", rewards=rewards), **recipe)
    assert project.of(RunStarted)[0].first_step == done
    assert project.of(StepDone)[-1].step == 6


def test_a_reward_that_fails_on_the_holdout_loses_no_step(project: Project, desk: Made) -> None:
    (project.folder / "held.py").write_text(
        "from pathlib import Path\n"
        "def score(messages, answer, row):\n"
        "    assert Path(__file__).with_name('works').exists() or not row['held']\n"
        "    return float(len(answer))\n"
    )
    for name, held in (("learned", False), ("measured", True)):
        rows = [
            {"prompt": f"Box {n + 8 * held}?", "completion": "Red.", "held": held} for n in range(8)
        ]
        project.write(name, rows)
    data = {"train": "learned.jsonl", "holdout": "measured.jsonl"}
    recipe = {"start_from": "desk", "train": {**TRAIN, "max_steps": 2, "epochs": 9}}
    rewards = [{"kind": "function", "function": "held.py:score"}]

    def make() -> None:
        project.make("held", data, own("rloo", rewards=rewards), **recipe)

    with pytest.raises(TrainingError, match="AssertionError"):
        make()
    assert [event.step for event in project.of(StepDone)] == [1]
    (project.folder / "works").touch()
    make()
    assert [event.step for event in project.of(StepDone)] == [2]
    assert [event.step for event in project.of(HoldoutMeasured)] == [1, 2]


def test_one_long_answer_a_question_is_compared_with_those_to_others(
    project: Project, desk: Made
) -> None:
    train = {**TRAIN, "max_steps": 1, "tokens_per_step": 4000}
    objective = own("ppo", num_generations=1, max_tokens=700)
    objective["rewards"] = [{"kind": "function", "function": "numbers.py:score"}]
    (project.folder / "numbers.py").write_text(
        "def score(messages, answer, row):\n"
        "    return float(messages[-1]['content'].split()[-1][:-1])\n"
    )
    project.make("long", "chats", objective, start_from="desk", train=train)
    assert not [e for e in project.of(Notice) if "worth the same" in e.message]


def test_a_reward_function_gets_copies(project: Project, desk: Made) -> None:
    (project.folder / "greedy.py").write_text(
        "seen = set()\n"
        "def score(messages, answer, row):\n"
        "    seen.add(messages[0]['content'])\n"
        "    messages[0]['content'] = 'mine'\n"
        "    assert 'mine' not in seen\n"
        "    return float(len(answer))\n"
    )
    rewards = [{"kind": "function", "function": "greedy.py:score"}]
    train = {**TRAIN, "max_steps": 2}
    project.make("greedy", "chats", own("rloo", rewards=rewards), start_from="desk", train=train)
    assert len(project.of(StepDone)) == 2
