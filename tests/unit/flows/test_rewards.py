"""Reward models: made of pairs, measured on pairs, and refused where answers are wanted."""

from pathlib import Path

import pytest
import torch

from kamerton.core.errors import DataError, ModelError, SettingsError, VariantError
from kamerton.core.events import HoldoutMeasured, StepDone
from kamerton.core.protocols import Generation
from kamerton.data.rendering.tokenized import TokenizedPair
from kamerton.flows.chat import Conversation
from kamerton.flows.combine import combine_variants
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.train import Made
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.rows.row import make_row
from kamerton.training.scoring import read
from kamerton.variants.export import export_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from tests.unit.flows.test_preferences import Project, pair_rows

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("rewards"))


@pytest.fixture(scope="module")
def judge(project: Project) -> Made:
    return project.make("judge", "pairs", {"kind": "reward"})


def test_it_begins_undecided_and_learns_to_tell(project: Project, judge: Made) -> None:
    first = project.of(StepDone)[0]
    assert first.loss == pytest.approx(0.6931, abs=1e-4)
    assert first.metrics["accuracy"] == 0.5
    last = project.of(HoldoutMeasured)[-1]
    assert last.metrics["accuracy"] == 1.0
    assert last.metrics["brier"] < 0.25
    metrics = judge.variant.manifest.metrics
    assert metrics["holdout_accuracy"] == 1.0
    assert "holdout_loss_base" not in metrics


def test_its_preference_accuracy_stands_beside_prompting(project: Project, judge: Made) -> None:
    found = evaluate_variants([judge.variant], project.workspace, project.events.append)
    values = {m.variant: m.value for m in found.comparison.measured}
    assert values["judge"] == 1.0
    assert found.comparison.cost("judge").holdout_loss is None


def test_after_one_step_only_the_head_has_learned(project: Project) -> None:
    settings = {"epochs": 1, "learning_rate": 1e-3, "tokens_per_step": 400, "max_steps": 1}
    made = project.make("one-step", "pairs", {"kind": "reward"}, train=settings)
    assert made.variant.manifest.metrics["steps"] == 1


def test_the_engine_judges_as_training_does(project: Project, judge: Made) -> None:
    base = load_base_for(judge.variant)
    ready = make_ready(judge.variant, base)
    chats = [[{"role": "user", "content": row["prompt"]}] for row in pair_rows(5)]
    answers = [(row["chosen"], row["rejected"]) for row in pair_rows(5)]
    engine = RewardEngine(base, ready.renderer, tokens_per_row=50)
    judged = engine.rewards(chats, answers)
    for chat, pair, numbers in zip(chats, answers, judged, strict=True):
        rows = [
            ready.renderer.render_chat([*chat, {"role": "assistant", "content": answer}])
            for answer in pair
        ]
        pair_row = TokenizedPair(len(ready.renderer.prompt_ids(chat)), *rows)
        with torch.no_grad():
            wanted = read(base, make_row([pair_row], base.device), "scores")
        torch.testing.assert_close(numbers, wanted, atol=1e-4, rtol=1e-4)
    scores = engine.score(chats, answers)
    assert all(better.logprob > worse.logprob for better, worse in scores)
    with pytest.raises(ModelError, match="judges answers and writes none"):
        list(engine.stream(chats, Generation()))


def test_it_cannot_be_used_where_answers_are_wanted(
    project: Project, judge: Made, tmp_path: Path
) -> None:
    with pytest.raises(VariantError, match="it cannot be talked to"):
        Conversation.open(["judge"], project.workspace)
    with pytest.raises(VariantError, match="it cannot be exported"):
        export_variant(judge.variant, tmp_path / "out", "peft")
    other = project.make("judge-2", "pairs", {"kind": "reward"}, train={"max_steps": 2, "seed": 2})
    with pytest.raises(VariantError, match="it cannot be combined"):
        combine_variants([judge.variant, other.variant], "both", project.workspace, None)  # type: ignore[arg-type]
    with pytest.raises(VariantError, match="it cannot be gone on from"):
        project.make("desk-2", "chats", {"kind": "sft"}, start_from="judge")


def test_it_goes_on_from_itself_and_from_what_was_fine_tuned(project: Project, judge: Made) -> None:
    project.make("speaker", "chats", {"kind": "sft"}, train={"max_steps": 3})
    few = {"max_steps": 3, "learning_rate": 1e-3, "tokens_per_step": 400}
    project.make("judge-of-speaker", "pairs", {"kind": "reward"}, start_from="speaker", train=few)
    assert project.of(StepDone)[0].loss == pytest.approx(0.6931, abs=1e-4)
    project.make("judge-on", "pairs", {"kind": "reward"}, start_from="judge", train=few)
    assert project.of(StepDone)[0].loss < 0.5
    with pytest.raises(SettingsError, match="gives 1 numbers an answer, the recipe wants 8"):
        general = {"kind": "reward", "model": "general"}
        project.make("judge-general", "pairs", general, start_from="judge")


def test_a_general_model_compares(project: Project) -> None:
    made = project.make("general", "pairs", {"kind": "reward", "model": "general"})
    assert project.of(HoldoutMeasured)[-1].metrics["accuracy"] == 1.0
    found = evaluate_variants([made.variant], project.workspace, project.events.append)
    values = {m.variant: m.value for m in found.comparison.measured}
    assert values["general"] == 1.0


def test_margins_come_from_a_column(project: Project) -> None:
    rows = [{**row, "margin": 2.0} for row in pair_rows(40)]
    project.write("margins", rows)
    project.make("margins", "margins", {"kind": "reward"}, train={"max_steps": 3})
    # -log sigmoid(0 - 2)
    assert project.of(StepDone)[0].loss == pytest.approx(2.1269, abs=1e-3)
    project.write("strange", [{**row, "margin": "much"} for row in pair_rows(40)])
    with pytest.raises(DataError, match="margin must be a number, got 'much'"):
        project.make("strange", "strange", {"kind": "reward"})
    project.write("negative", [{**row, "margin": -1} for row in pair_rows(40)])
    with pytest.raises(DataError, match="margin must be 0 or more, got -1"):
        project.make("negative", "negative", {"kind": "reward"})
    # Others do not read the column.
    project.make("others", "strange", {"kind": "simpo"}, train={"max_steps": 1})


def test_margins_come_from_tables_too(project: Project) -> None:
    rows = ["prompt,chosen,rejected,margin"]
    rows += [f"{r['prompt']},{r['chosen']},{r['rejected']},2.0" for r in pair_rows(40)]
    (project.folder / "margins.csv").write_text("\n".join(rows))
    data = {"train": "margins.csv", "holdout": 0.2}
    project.make("table", data, {"kind": "reward"}, train={"max_steps": 1})
    assert project.of(StepDone)[0].loss == pytest.approx(2.1269, abs=1e-3)


def test_pairs_without_a_margin_have_that_of_the_recipe(project: Project) -> None:
    rows = [{**row, **({"margin": 0.0} if n % 2 else {})} for n, row in enumerate(pair_rows(40))]
    project.write("some-margins", rows)
    objective = {"kind": "reward", "margin": 2.0}
    train = {"max_steps": 3, "learning_rate": 1e-3, "tokens_per_step": 400}
    project.make("some-margins", "some-margins", objective, train=train)
    # Halfway between -log sigmoid(0) and -log sigmoid(-2), however the pairs are packed.
    first = project.of(StepDone)[0]
    assert 0.8 < first.loss < 2.0
    project.make("packed", "some-margins", objective, train={**train, "tokens_per_row": 60})
    assert project.of(StepDone)[0].loss == pytest.approx(first.loss, abs=1e-4)
