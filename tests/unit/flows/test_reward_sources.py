"""Where rewards come from: each source gives the right numbers, and its mistakes are named."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.adapters.catalogue import attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.switcher import AdapterSwitcher
from kamerton.core.errors import (
    InterruptedRun,
    KamertonError,
    SettingsError,
    TrainingError,
    VariantError,
)
from kamerton.core.events import StepDone
from kamerton.core.protocols import Engine
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.attention.layout import Layout
from kamerton.models.load import load_base
from kamerton.objectives.online import OnlineSettings
from kamerton.training.reward_functions import function_hashes
from kamerton.training.rewards import make_reward, read_reward_variants
from kamerton.training.rollouts import AnsweredPrompt, RewardFunction
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.rendering import renderer_of
from tests.unit.flows.test_preferences import Project, pair_rows

pytestmark = pytest.mark.filterwarnings("error")

FUNCTIONS = '''
"""Rewards of a company."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 3


@dataclass
class Seen:
    messages: list
    row: dict


def length(messages, answer, row):
    return len(answer)


def place(messages, answer, row):
    seen = Seen(messages, row)
    assert type(seen.messages) is list and type(seen.row) is dict
    return seen.row["n"] + 0.5 * (seen.messages[-1]["content"] == "Which colour has box 1?")


def spoils(messages, answer, row):
    messages.clear()
    row.clear()
    return 1.0


def fails(messages, answer, row):
    return row["stars"]


def strange(messages, answer, row):
    return float("nan")


def endless(messages, answer, row):
    return float("inf")


def words(messages, answer, row):
    return "good"


def silent(messages, answer, row):
    pass
'''

ANSWERED = [
    AnsweredPrompt(
        ({"role": "user", "content": f"Which colour has box {n}?"},),
        {"n": n, "must": "blue"} if n else {"n": n},
        f"Box {n} is red.",
        texts,
    )
    for n, texts in enumerate([("Box 0 is red.", "[1]"), ("Box 1 is blue.", "I do not know.", "")])
]
FEW = {"max_steps": 3, "learning_rate": 3e-3, "tokens_per_step": 400}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "function", "function": f"rewards.py:{name}", **more}


def variant(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "variant", "variant": name, **more}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("sources"))
    (made.folder / "rewards.py").write_text(FUNCTIONS)
    return made


@pytest.fixture(scope="module")
def judge(project: Project) -> Made:
    """A reward model that reads a system text before every chat."""
    system = {"system": "Judge politely."}
    return project.make("judge", "pairs", {"kind": "reward"}, train=FEW, prompt=system)


@pytest.fixture(scope="module")
def general(project: Project) -> Made:
    return project.make("general", "pairs", {"kind": "reward", "model": "general"}, train=FEW)


@pytest.fixture(scope="module")
def desk(project: Project) -> Made:
    system = {"system": "Answer yes or no."}
    return project.make("desk", "chats", {"kind": "sft"}, train=FEW, prompt=system)


class Policy:
    """A base with a policy that changes a lot, and what judges it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.base = load_base("builtin:nano", dtype="float32", device="cpu")
        self.adapter = attach(self.base, LoraSettings(rank=4), 1)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in self.adapter.parameters().values():
                parameter += torch.randn_like(parameter) * 0.1
        self.residents = AdapterSwitcher(self.adapter)

    def recipe(self, *sources: dict[str, Any], kind: str = "rloo") -> Recipe:
        return Recipe.parse(
            {
                "name": "policy",
                "base": {"id": "builtin:nano", "dtype": "float32"},
                "data": {"train": "pairs.jsonl"},
                "objective": {"kind": kind, "rewards": list(sources)},
            }
        )

    def reward(self, *sources: dict[str, Any], kind: str = "rloo") -> RewardFunction:
        recipe, project = self.recipe(*sources, kind=kind), self.project
        judges = read_reward_variants(recipe.objective, project.workspace.variants)
        assert isinstance(recipe.objective, OnlineSettings)
        return make_reward(recipe.objective, judges, self.base, self.residents, project.folder)

    @torch.no_grad()
    def says(self) -> Tensor:
        return self.base.hidden(torch.arange(5, 30), Layout.of_lengths([25]))


@pytest.fixture
def policy(project: Project) -> Policy:
    return Policy(project)


def test_a_function_is_asked_about_every_answer(policy: Policy) -> None:
    found = policy.reward(function("length"))(ANSWERED)
    assert found.dtype == torch.float32
    assert found.tolist() == [[13.0], [3.0], [14.0], [14.0], [0.0]]
    assert policy.reward(function("place"))(ANSWERED).tolist() == [[0], [0], [1.5], [1.5], [1.5]]


def test_a_function_cannot_spoil_what_others_see(policy: Policy) -> None:
    found = policy.reward(function("spoils"), function("place"))(ANSWERED)
    assert found.tolist() == [[1], [1], [2.5], [2.5], [2.5]]
    assert ANSWERED[1].messages
    assert ANSWERED[1].extra == {"n": 1, "must": "blue"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "fails failed for the answer 'Box 0 is red.': KeyError: 'stars'"),
        ("strange", "strange gave nan for the answer 'Box 0 is red.'"),
        ("endless", "endless gave inf for the answer 'Box 0 is red.'"),
        ("words", "words gave 'good' for the answer 'Box 0 is red.'"),
        ("silent", "silent failed for the answer 'Box 0 is red.': TypeError: "),
    ],
)
def test_a_function_that_gives_no_number_is_named(policy: Policy, name: str, said: str) -> None:
    with pytest.raises(TrainingError) as raised:
        policy.reward(function(name))(ANSWERED)
    assert raised.value.message.startswith(f"objective.rewards: rewards.py:{said}")


@pytest.mark.parametrize(
    ("file", "name", "said", "hint"),
    [
        ("none.py", "length", "none.py does not exist", None),
        (
            "rewards.py", "size", "rewards.py:size names no function",
            "it has Seen, length, place, spoils, fails, strange, endless, words, silent",
        ),
        ("rewards.py", "LIMIT", "rewards.py:LIMIT names no function", "it has Seen, length"),
        ("empty.py", "score", "empty.py:score names no function", "it has none"),
        ("broken.py", "score", "broken.py cannot be run: ZeroDivisionError: ", None),
        ("typo.py", "score", "typo.py cannot be run: SyntaxError: ", None),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_found_is_named(
    policy: Policy, file: str, name: str, said: str, hint: str | None
) -> None:
    folder = policy.project.folder
    (folder / "empty.py").write_text("from math import sqrt\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "typo.py").write_text("def score(:\n")
    with pytest.raises(SettingsError) as raised:
        policy.reward({"kind": "function", "function": f"{file}:{name}"})
    assert raised.value.message.startswith("objective.rewards: ")
    assert said in raised.value.message
    assert (raised.value.hint or "").startswith(hint or "")


def test_a_check_pays_1_for_what_passes_and_nothing_for_what_it_does_not_count(
    policy: Policy,
) -> None:
    def paid(**check: Any) -> list[float]:
        return policy.reward({"kind": "check", "check": check})(ANSWERED).flatten().tolist()

    assert paid(kind="json") == [0, 1, 0, 0, 0]
    assert paid(kind="exact") == [1, 0, 0, 0, 0]
    # Box 0 has no column "must": its answers are neither right nor wrong.
    assert paid(kind="contains", field="must") == [0, 0, 1, 0, 0]
    known = {"name": "knows", "pattern": "not know", "must": False}
    assert paid(kind="rules", rules=[known]) == [1, 1, 1, 0, 1]
    assert paid(kind="contains", field="nobody has") == [0] * 5


def chats() -> list[Any]:
    return [one.messages for one in ANSWERED]


def test_a_variant_judges_as_it_does_alone(policy: Policy, judge: Made, general: Made) -> None:
    before = policy.says()
    for made, kind, width in ((judge, "rloo", 1), (general, "drpo", 8)):
        reward = policy.reward(variant(made.variant.manifest.name), kind=kind)
        found = reward(ANSWERED)
        base = load_base_for(made.variant)
        engine = make_ready(made.variant, base).engine
        assert isinstance(engine, RewardEngine)
        expected = torch.cat(engine.rewards(chats(), [one.texts for one in ANSWERED]))
        assert found.shape == (5, width)
        assert found.std() > 1e-3
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        # Answers that are judged one by one are worth the same.
        apart = torch.cat([reward([one]) for one in ANSWERED])
        torch.testing.assert_close(found, apart, atol=1e-4, rtol=1e-4)
    assert torch.equal(policy.says(), before)


QUESTION = "Is '{answer}' right for '{prompt}'? Say {yes}."


def by_asking(engine: Engine, yes: str, no: str) -> list[float]:
    asked = [
        [{
            "role": "user",
            "content": f"Is '{text}' right for '{one.messages[-1]['content']}'? Say {{yes}}.",
        }]
        for one in ANSWERED
        for text in one.texts
    ]  # fmt: skip
    scores = engine.score(asked, [(yes, no)] * len(asked))
    return [1 / (1 + math.exp(bad.logprob - good.logprob)) for good, bad in scores]


def test_the_base_judges_without_the_policy(policy: Policy) -> None:
    before = policy.says()
    source = {"kind": "judge", "question": QUESTION, "yes": "right", "no": "wrong"}
    found = policy.reward(source)(ANSWERED)
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    engine = EmbeddedEngine(base, renderer_of(base, RenderSettings()))
    assert found.shape == (5, 1)
    assert found.flatten().tolist() == pytest.approx(by_asking(engine, "right", "wrong"), abs=1e-5)
    assert len(set(found.flatten().tolist())) == 5
    assert torch.equal(policy.says(), before)


def test_a_variant_judges_with_its_own_prompt(policy: Policy, desk: Made) -> None:
    source = {"kind": "judge", "question": QUESTION, "variant": "desk"}
    found = policy.reward(source)(ANSWERED).flatten().tolist()
    base = load_base_for(desk.variant)
    expected = by_asking(make_ready(desk.variant, base).engine, "yes", "no")
    assert found == pytest.approx(expected, abs=1e-5)
    alone = EmbeddedEngine(base, renderer_of(base, RenderSettings()))
    assert found != pytest.approx(by_asking(alone, "yes", "no"), abs=1e-4)


def test_what_an_answer_says_is_not_filled_in(policy: Policy) -> None:
    tricky = replace(ANSWERED[0], texts=("{prompt} {answer}",))
    plain = replace(ANSWERED[0], texts=("Which colour has box 0? {answer}",))
    reward = policy.reward({"kind": "judge", "question": QUESTION})
    assert reward([tricky]).item() != reward([plain]).item()


def test_an_empty_answer_is_worth_something_to_everybody(policy: Policy, judge: Made) -> None:
    empty = replace(ANSWERED[0], texts=("", " ", "No."))
    sources: list[dict[str, Any]] = [
        variant("judge"),
        {"kind": "judge", "question": QUESTION},
        {"kind": "judge", "question": "{answer}"},
        {"kind": "check", "check": {"kind": "refusal"}},
        function("length"),
    ]
    for source in sources:
        found = policy.reward(source)([empty])
        assert found.shape == (3, 1)
        assert torch.isfinite(found).all()


def test_weights_add_up(policy: Policy, judge: Made, desk: Made) -> None:
    sources: list[dict[str, Any]] = [
        {"kind": "judge", "question": QUESTION, "variant": "desk", "weight": -3.0},
        function("length", weight=0.25),
        variant("judge", weight=2.0),
        {"kind": "check", "check": {"kind": "json"}, "weight": 10.0},
        {"kind": "judge", "question": QUESTION, "weight": 0.5},
    ]
    apart = [
        source["weight"] * policy.reward({**source, "weight": 1.0})(ANSWERED) for source in sources
    ]
    together = policy.reward(*sources)(ANSWERED)
    assert together.shape == (5, 1)
    torch.testing.assert_close(together, torch.stack(apart).sum(0), atol=1e-5, rtol=1e-5)
    # One source alone is weighed too.
    half = policy.reward(function("length", weight=0.5))(ANSWERED)
    assert half.flatten().tolist() == [6.5, 1.5, 7.0, 7.0, 0.0]


@pytest.mark.parametrize(
    ("sources", "kind", "error", "said"),
    [
        ([variant("nobody")], "rloo", VariantError, "nobody"),
        (
            [variant("desk")], "rloo", VariantError,
            "objective.rewards: 'desk' learned with objective.kind = 'sft', it is no reward model",
        ),
        (
            [{"kind": "judge", "question": "{answer}", "variant": "judge"}], "rloo", VariantError,
            "it cannot be asked a question",
        ),
        *(
            (
                sources, kind, SettingsError,
                "objective.rewards: 'general' is a general preference model, which compares pairs: "
                'it can only be the one source of objective.kind = "drpo"',
            )
            for sources, kind in (
                ([variant("general")], "rloo"),
                ([variant("general")], "grpo"),
                ([variant("general")], "ppo"),
                ([variant("general"), function("length")], "drpo"),
            )
        ),
        (
            [variant("general", weight=-1.0)], "drpo", SettingsError,
            "objective.rewards: 'general' is a general preference model, whose weight must be 1, "
            "got -1.0",
        ),
    ],
)  # fmt: skip
def test_who_cannot_judge_is_refused(
    policy: Policy,
    judge: Made,
    general: Made,
    desk: Made,
    sources: list[dict[str, Any]],
    kind: str,
    error: type[KamertonError],
    said: str,
) -> None:
    with pytest.raises(error) as raised:
        read_reward_variants(
            policy.recipe(*sources, kind=kind).objective, policy.project.workspace.variants
        )
    assert said in raised.value.message


@pytest.mark.parametrize(
    "source", [variant("judge"), {"kind": "judge", "question": "{answer}", "variant": "desk"}]
)
def test_a_judge_of_another_base_is_refused(
    policy: Policy, judge: Made, desk: Made, source: dict[str, Any]
) -> None:
    policy.base.identity = replace(policy.base.identity, weight_hash="1" * 64)
    said = f"'{source['variant']}' was made for"
    with pytest.raises(VariantError, match=said):
        policy.reward(source)


def test_judges_are_named_in_order(policy: Policy, judge: Made, desk: Made) -> None:
    asked = {"kind": "judge", "question": "{answer}"}
    recipe = policy.recipe(
        {**asked, "variant": "desk"}, function("length"), asked, variant("judge")
    )
    found = read_reward_variants(recipe.objective, policy.project.workspace.variants)
    assert [one.manifest.name for one in found] == ["desk", "judge"]
    plain = recipe.model_copy(update={"objective": Recipe.model_fields["objective"].default})
    assert read_reward_variants(plain.objective, policy.project.workspace.variants) == []


def test_a_judge_needs_no_recipe(
    policy: Policy, judge: Made, general: Made, tmp_path: Path
) -> None:
    for made in (judge, general):
        folder = tmp_path / made.variant.name
        shutil.copytree(made.variant.folder, folder)
        path = folder / "variant.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": {}}))
    found = read_reward_variants(policy.recipe(variant("judge")).objective, tmp_path)
    before = policy.reward(variant("judge"))(ANSWERED)
    settings = policy.recipe(variant("judge")).objective
    assert isinstance(settings, OnlineSettings)
    reward = make_reward(settings, found, policy.base, policy.residents, policy.project.folder)
    assert torch.equal(reward(ANSWERED), before)
    with pytest.raises(SettingsError, match="general preference model"):
        read_reward_variants(policy.recipe(variant("general")).objective, tmp_path)


def test_functions_are_known_by_their_bytes(policy: Policy, tmp_path: Path) -> None:
    recipe = policy.recipe(
        {"kind": "function", "function": "a.py:score"},
        {"kind": "judge", "question": "{answer}"},
        {"kind": "function", "function": "b.py:score"},
    )
    settings = recipe.objective
    assert isinstance(settings, OnlineSettings)
    (tmp_path / "a.py").write_text("def score(messages, answer, row): return 0\n")
    (tmp_path / "b.py").write_text("def score(messages, answer, row): return 1\n")
    first = function_hashes(settings, tmp_path)
    assert list(first) == ["a.py:score", "b.py:score"]
    assert len(set(first.values())) == 2
    assert function_hashes(settings, tmp_path) == first
    (tmp_path / "b.py").write_text("def score(messages, answer, row): return 2\n")
    second = function_hashes(settings, tmp_path)
    assert second["a.py:score"] == first["a.py:score"]
    assert second["b.py:score"] != first["b.py:score"]
    (tmp_path / "a.py").unlink()
    with pytest.raises(SettingsError, match=r"a\.py does not exist"):
        function_hashes(settings, tmp_path)


class Run:
    """A run over own answers that can be stopped after its first step."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.steps: list[int] = []

    def __call__(
        self, *sources: dict[str, Any], name: str, stop: bool = False, fresh: bool = False
    ) -> None:
        recipe = Recipe.parse(
            {
                "name": name,
                "base": {"id": "builtin:nano", "dtype": "float32"},
                "data": {"train": "chats.jsonl", "holdout": 0.2},
                "objective": {
                    "kind": "rloo", "rewards": list(sources), "num_generations": 2, "max_tokens": 4,
                },
                "train": {"max_steps": 2, "tokens_per_step": 100, "learning_rate": 1e-3},
            }
        )  # fmt: skip
        self.steps = []
        make_variant(
            recipe, self.project.folder, self.project.workspace, self._listen,
            should_stop=lambda: stop and bool(self.steps), fresh=fresh,
        )  # fmt: skip

    def _listen(self, event: object) -> None:
        if isinstance(event, StepDone):
            self.steps.append(event.step)


def test_a_stopped_run_goes_on_with_the_same_function_only(project: Project) -> None:
    run = Run(project)
    path = project.folder / "own.py"
    source = {"kind": "function", "function": "own.py:score"}
    path.write_text("def score(messages, answer, row):\n    return len(answer) % 7\n")
    with pytest.raises(InterruptedRun):
        run(source, name="own", stop=True)
    assert run.steps == [1]
    before = path.read_text()
    path.write_text("def score(messages, answer, row):\n    return len(answer) % 5\n")
    with pytest.raises(TrainingError, match="other settings, data or base") as raised:
        run(source, name="own")
    assert "\n  rewards.own.py:score: " in raised.value.message
    assert "--fresh" in (raised.value.hint or "")
    path.write_text(before)
    run(source, name="own")
    assert run.steps == [2]
    path.write_text(before.replace("7", "5"))
    run(source, name="own", fresh=True)
    assert run.steps == [1, 2]


def test_a_judge_that_was_trained_again_makes_another_run(project: Project) -> None:
    run = Run(project)
    project.make("again", "pairs", {"kind": "reward"}, train={**FEW, "max_steps": 2})
    with pytest.raises(InterruptedRun):
        run(variant("again"), name="judged", stop=True)
    project.write("more-pairs", pair_rows(44))
    project.make("again-2", "more-pairs", {"kind": "reward"}, train={**FEW, "max_steps": 2})
    with pytest.raises(TrainingError, match="other settings, data or base"):
        run(variant("again-2"), name="judged")
    run(variant("again"), name="judged")
    assert run.steps == [2]
