"""Measuring variants against prompting: what is asked, what is set aside, what is written down."""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError, EvaluationError, ModelError, SettingsError
from kamerton.core.events import Event, Notice
from kamerton.core.protocols import TokenEvent
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.side_by_side import side_by_side
from kamerton.flows.evaluate import Evaluated, evaluate_variants, evaluation_settings
from kamerton.flows.recipe import Recipe
from kamerton.flows.report import ensure_writable, write_evaluation_report
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store import variants as variant_folders
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, read_variant
from kamerton.testing import FakeEngine
from kamerton.variants.load import Opening

LABELS = ("refund", "delivery", "account")


class Project:
    """A folder with a recipe, and all notices that its flows gave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.notices: list[str] = []

    def make(self, learn: list[Any], hold: list[Any], **sections: Any) -> Variant:
        for name, rows in (("train", learn), ("holdout", hold)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text(text)
        recipe = {
            "name": "desk",
            "base": {"id": "builtin:nano", "dtype": "float32"},
            "data": {"train": "train.jsonl", "holdout": "holdout.jsonl"},
            "adapter": {"kind": "none"},
            "evaluate": {"max_new_tokens": 4, "shots": 2, "resamples": 100},
            **sections,
        }
        return make_variant(Recipe.parse(recipe), self.folder, self.workspace, self.sink).variant

    def evaluate(self, *variants: Variant, **options: Any) -> Evaluated:
        return evaluate_variants(variants, self.workspace, self.sink, **options)

    def sink(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.message)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def classified(num: int, words: int = 3, kind: str = "text") -> list[dict[str, str]]:
    return [{"text": f"{kind} {n} " + "word " * words, "label": LABELS[n % 3]} for n in range(num)]


def held_out(num: int, words: int = 3) -> list[dict[str, str]]:
    return classified(num, words, "new text")


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        (Opening(device="typo"), "there is no 'typo'"),
        (Opening(base="./typo"), "neither a folder, a Hub id nor a builtin"),
    ],
)
def test_a_mistyped_base_is_said_before_the_data_are_read(
    opening: Opening, said: str, project: Project
) -> None:
    variant = project.make(classified(12), held_out(6))
    (project.folder / "train.jsonl").unlink()
    with pytest.raises(ModelError, match=said):
        project.evaluate(variant, opening=opening)


def test_what_it_forgot_and_how_it_compares_stand_in_the_card(project: Project) -> None:
    variant = project.make(
        classified(12), held_out(6),
        adapter={"kind": "lora", "rank": 4}, train={"max_steps": 2, "learning_rate": 0.02},
        evaluate={"shots": 2, "instruction": "none", "resamples": 100},
    )  # fmt: skip
    comparison = project.evaluate(variant).comparison
    assert comparison.variants == ("always the commonest", "zero-shot", "2-shot", "desk")
    _, zero, few, desk = comparison.costs
    assert few.general_loss == zero.general_loss
    assert desk.general_loss != zero.general_loss
    assert desk.holdout_loss != zero.holdout_loss
    assert zero.holdout_tokens == few.holdout_tokens == desk.holdout_tokens
    metrics = read_variant(variant.folder).manifest.metrics
    assert metrics["general_loss_base"] == zero.general_loss
    assert metrics["holdout_loss"] == pytest.approx(desk.holdout_loss, rel=1e-4)
    assert metrics["holdout_loss_base"] == pytest.approx(zero.holdout_loss, rel=1e-4)
    card = (variant.folder / "CARD.md").read_text()
    assert "| zero-shot |" in card
    assert f"{desk.general_loss:.3f}; the base alone has {zero.general_loss:.3f}" in card
    with open_store(project.workspace.store) as store:
        assert len(store.evaluations("desk")) == 1


def test_what_a_variant_learned_from_is_left_out_and_counted(project: Project) -> None:
    adapter = {
        "adapter": {"kind": "lora", "rank": 2}, "train": {"max_steps": 1, "learning_rate": 0.02},
        "evaluate": {"max_new_tokens": 4, "shots": 0, "resamples": 100},
    }  # fmt: skip
    rows = held_out(3)
    variant = project.make([*classified(9), rows[0]], rows, **adapter)
    evaluated = project.evaluate(variant)
    assert len(evaluated.items) == 2
    told = "1 of 3 examples are left out, as they were seen before (desk learned from 1)"
    assert told in project.notices
    assert ("seen before", told) in evaluated.facts
    with pytest.raises(EvaluationError, match="all 10 examples were seen before"):
        project.evaluate(variant, data=str(project.folder / "train.jsonl"))


def test_a_label_that_was_never_learned_counts_as_wrong(project: Project) -> None:
    variant = project.make(classified(12), [*held_out(6), {"text": "new", "label": "other"}])
    evaluated = project.evaluate(variant)
    assert evaluated.items[-1].labels == ("account", "delivery", "other", "refund")
    one = "1 label of the held-out examples is not among the training examples, such as 'other': "
    assert f"{one}no variant could learn it" in project.notices


def test_long_questions_keep_the_worked_examples_that_fit(project: Project) -> None:
    # nano sees 1,024 tokens: two examples of 300 fit beside a short question, not a long one.
    holdout = [*held_out(3, words=20), *held_out(1, words=400)]
    variant = project.make(classified(6, words=150), holdout)
    evaluated = project.evaluate(variant)
    assert len(evaluated.items) == 4
    (notice,) = (notice for notice in project.notices if "worked examples" in notice)
    assert notice.startswith("2-shot: 1 of 4 questions leave room for fewer")
    assert notice.endswith("context: 0 of 2 fit")


def test_what_fits_no_context_is_not_asked_and_said(project: Project) -> None:
    variant = project.make(classified(6), [*held_out(3), *held_out(1, words=2000)])
    evaluated = project.evaluate(variant)
    assert len(evaluated.items) == 3
    (notice,) = (notice for notice in project.notices if "not asked" in notice)
    assert "holdout.jsonl:4" in notice
    assert "the base's context" in notice
    only_long = project.folder / "long.jsonl"
    only_long.write_text(json.dumps(classified(1, words=2000)[0]) + "\n")
    with pytest.raises(EvaluationError, match="none of the 1 examples can be asked"):
        project.evaluate(variant, data=str(only_long))


def test_a_row_beyond_the_context_is_not_trained(project: Project) -> None:
    rows = [*classified(3), *classified(1, words=2000)]
    sections = {
        "adapter": {"kind": "lora"}, "train": {"max_steps": 1, "learning_rate": 0.02},
        "render": {"max_tokens": 100_000},
    }  # fmt: skip
    with pytest.raises(DataError, match=r"1 of 4 training examples .* context\), found 40\d\d"):
        project.make(rows, classified(2), **sections)
    data = {"train": "train.jsonl", "holdout": "holdout.jsonl", "max_unusable": 0.5}
    project.make(rows, classified(2), **sections, data=data)
    assert any("1 of 4 training examples" in notice for notice in project.notices)


def test_plain_texts_are_read_and_compared_with_the_base_alone(project: Project) -> None:
    texts = [{"text": f"It was the year {n}, and the harvest was good."} for n in range(14)]
    variant = project.make(
        texts[:7], texts[7:], adapter={"kind": "lora", "rank": 4},
        train={"max_steps": 3, "learning_rate": 0.01},
        evaluate={"checks": [{"kind": "exact"}], "resamples": 100},
    )  # fmt: skip
    found = project.evaluate(variant)
    comparison = found.comparison
    assert (comparison.variants, comparison.metrics) == (("base alone", "desk"), ("loss",))
    assert (comparison.kind, comparison.better) == ("reading", ("lower",))
    difference = comparison.difference("loss", "desk", "base alone")
    assert difference is not None
    assert difference.high < 0
    metrics = read_variant(variant.folder).manifest.metrics
    measured = {name: comparison.measure("loss", name).value for name in comparison.variants}
    assert measured["desk"] == pytest.approx(metrics["holdout_loss"], rel=1e-4)
    assert measured["base alone"] == pytest.approx(metrics["holdout_loss_base"], rel=1e-4)
    assert any("checks are not measured" in notice for notice in project.notices)
    assert not any("few-shot" in notice for notice in project.notices)
    assert side_by_side(comparison, found.items, found.answers) is None
    write_evaluation_report(project.folder / "r.html", found, project.workspace, "desk")
    assert f"{measured['desk']:.2f}" in (project.folder / "r.html").read_text(encoding="utf-8")


def test_texts_have_the_loss_of_each_as_a_metric(project: Project) -> None:
    rows = [{"prompt": f"Q{n}", "completion": f"We answer {n} " + "word " * n} for n in range(14)]
    held = [{**row, "prompt": "New " + row["prompt"]} for row in rows]
    variant = project.make(rows, held, adapter={"kind": "lora", "rank": 2},
                           train={"max_steps": 1, "learning_rate": 0.02})  # fmt: skip
    found = project.evaluate(variant)
    assert found.comparison.metrics == ("loss", "chrF", "length")
    for answers in found.answers:
        assert len(answers.losses) == 14
        # Asked in three rounds, and still in the order of the items.
        assert answers.loss_tokens == tuple(sorted(answers.loss_tokens))
        mean = sum(answers.losses) / sum(answers.loss_tokens)
        assert mean == pytest.approx(answers.holdout_loss)
        assert found.comparison.measure("loss", answers.variant).value == pytest.approx(mean)
    measured = read_variant(variant.folder).manifest.metrics
    assert measured["loss"] == pytest.approx(measured["holdout_loss"], rel=1e-4)


def test_what_few_shot_shows_is_said_as_it_is(project: Project) -> None:
    pairs = [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": "bad"} for n in range(3)]
    (project.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    variant = project.make(classified(1), held_out(3))
    found = project.evaluate(variant)
    assert found.comparison.variants == ("always the commonest", "zero-shot", "1-shot", "desk")
    assert ("demonstrations", "1, from the training examples") in found.facts
    disliked = [{"prompt": f"Q{n}", "completion": "bad", "label": False} for n in range(3)]
    variant = project.make(disliked, disliked[:1])
    found = project.evaluate(variant, data=str(project.folder / "pairs.jsonl"))
    assert found.comparison.variants == ("zero-shot", "desk")
    assert any("few-shot is left out" in notice for notice in project.notices)


def test_the_same_variant_twice_is_refused_before_any_work(project: Project) -> None:
    variant = project.make(classified(6), held_out(3))
    with pytest.raises(EvaluationError, match="different names"):
        project.evaluate(variant, variant)


def test_a_comparison_that_cannot_be_recorded_is_still_shown(project: Project, monkeypatch) -> None:
    variant = project.make(classified(6), held_out(3))

    def full(path: Path, _content: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(variant_folders, "write_atomically", full)
    assert project.evaluate(variant).comparison.num_items == 3
    assert any("No space left" in notice for notice in project.notices)


def test_the_warning_counts_groups_where_there_are_some(project: Project) -> None:
    held = [{**row, "customer": f"c{n % 3}"} for n, row in enumerate(held_out(24))]
    learn = [{**row, "customer": "c"} for row in classified(3)]
    data = {"train": "train.jsonl", "holdout": "holdout.jsonl", "group": "customer"}
    variant = project.make(learn, held, data=data, evaluate={"shots": 0, "resamples": 100})
    comparison = project.evaluate(variant).comparison
    assert (comparison.num_groups, comparison.differences) == (3, ())
    (notice,) = (notice for notice in project.notices if "intervals" in notice)
    assert notice.startswith("only 3 groups among 24 held-out examples: the intervals will be miss")


def test_a_test_set_is_measured_on_and_the_holdout_is_not(project: Project) -> None:
    (project.folder / "test.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in classified(5, kind="test"))
    )
    data = {"train": "train.jsonl", "holdout": "holdout.jsonl", "test": "test.jsonl"}
    variant = project.make(classified(6), held_out(3), data=data)
    assert (variant.manifest.data.num_holdout, variant.manifest.data.num_test) == (3, 5)
    found = project.evaluate(variant)
    assert found.comparison.num_items == 5
    assert found.comparison.measured_on == "the test set, which training never saw"
    assert "3 kept aside, 5 more for comparisons alone" in (variant.folder / "CARD.md").read_text()
    (project.folder / "test.jsonl").write_text((project.folder / "holdout.jsonl").read_text())
    with pytest.raises(DataError, match=r"data\.test holds the same examples as data\.holdout"):
        project.evaluate(variant)


@pytest.mark.parametrize(("keep", "chose"), [("best", True), ("last", False)])
def test_a_holdout_that_also_chose_the_step_is_called_so(
    project: Project, keep: str, chose: bool
) -> None:
    variant = project.make(
        classified(6), held_out(3), adapter={"kind": "lora", "rank": 2},
        train={"max_steps": 1, "learning_rate": 0.02, "keep": keep},
        evaluate={"max_new_tokens": 4, "shots": 0, "resamples": 100},
    )  # fmt: skip
    found = project.evaluate(variant)
    assert ("also chose the step" in found.comparison.measured_on) == chose
    assert any("data.test keeps examples" in notice for notice in project.notices) == chose
    told = dict(found.facts)["measured on"]
    assert told == f"{found.comparison.measured_on}: holdout.jsonl, 3 examples"


def test_without_a_holdout_nothing_was_chosen_on_it(project: Project) -> None:
    variant = project.make(
        classified(3), [], data={"train": "train.jsonl", "holdout": 0.0},
        adapter={"kind": "lora", "rank": 2}, train={"max_steps": 1, "learning_rate": 0.02},
    )  # fmt: skip
    project.notices.clear()
    with pytest.raises(EvaluationError, match="kept no examples aside"):
        project.evaluate(variant)
    assert project.notices == []


def test_a_file_with_other_columns_is_read_by_its_own_mapping(project: Project) -> None:
    variant = project.make(classified(3), held_out(3), evaluate={"shots": 0, "resamples": 100})
    path = project.folder / "other.jsonl"
    rows = [{"frage": row["text"], "klasse": row["label"]} for row in classified(4, kind="other")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["data.columns.text=frage", "data.columns.label=klasse"]
    settings, reading = evaluation_settings(variant, overrides, str(path))
    found = project.evaluate(variant, data=str(path), reading=reading, settings=settings)
    assert [item.reference for item in found.items] == [row["klasse"] for row in rows]
    with pytest.raises(SettingsError, match=r"data\.columns: .* file is read") as caught:
        evaluation_settings(variant, overrides)
    assert "--data FILE" in str(caught.value.hint)
    with pytest.raises(SettingsError, match=r"data\.holdout: the variant is trained already"):
        evaluation_settings(variant, ["data.holdout=0.2"], str(path))
    with pytest.raises(SettingsError, match=r"only evaluate\.\* and data\.\*"):
        evaluation_settings(variant, ["train.epochs=1"])
    for typed, meant in (("evaluat.limit=3", "evaluate"), ("limit=3", "evaluate.limit")):
        with pytest.raises(SettingsError) as mistyped:
            evaluation_settings(variant, [typed])
        assert mistyped.value.hint == f"did you mean {meant}?"


def test_few_shot_is_left_out_where_no_worked_example_fits(project: Project) -> None:
    variant = project.make(classified(6, words=1000), held_out(3))
    found = project.evaluate(variant)
    assert found.comparison.variants == ("always the commonest", "zero-shot", "desk")
    assert ("demonstrations", "0, from the training examples") in found.facts
    (notice,) = (notice for notice in project.notices if "worked examples" in notice)
    assert notice.startswith("2-shot: of the worked examples 0 of 2 fit")


def test_the_commonest_label_is_a_rival_of_the_variants_that_costs_nothing(
    project: Project,
) -> None:
    learn = [*classified(9), *({"text": f"more {n}", "label": "account"} for n in range(3))]
    variant = project.make(learn, held_out(9), evaluate={"shots": 0, "resamples": 100})
    found = project.evaluate(variant)
    comparison = found.comparison
    assert comparison.against == ("always the commonest", "zero-shot")
    assert set(found.answers[0].texts) == {"account"}
    measured = comparison.measure("accuracy", "always the commonest")
    assert (measured.value, measured.n) == (pytest.approx(1 / 3), 9)
    assert comparison.costs[0].seconds_median == comparison.costs[0].tokens_mean == 0
    # The variant is compared with both, and a prompt with none of them: 2 metrics, 4 tests.
    assert {(d.variant, d.against) for d in comparison.differences} == {
        ("desk", "always the commonest"),
        ("desk", "zero-shot"),
    }
    assert len(comparison.differences) == 4
    assert ("always the commonest", "account") in found.facts


def test_few_shot_shows_as_many_examples_as_fit_and_all_labels_alike(project: Project) -> None:
    variant = project.make(classified(90, words=6), held_out(3), evaluate={"resamples": 100})
    found = project.evaluate(variant)
    _, _, few, _ = found.comparison.variants
    shots = int(few.removesuffix("-shot"))
    # nano sees 1,024 tokens, and half of them may be examples.
    prompt = dict(found.prompts)[few]
    assert 6 <= shots < 90
    assert [prompt.count(f"{label}<") for label in LABELS] == [shots // 3] * 3
    assert ("demonstrations", f"{shots}, from the training examples") in found.facts
    assert not any("leave room" in notice for notice in project.notices)


def test_the_report_says_what_for_and_how_exactly_each_is_asked(project: Project) -> None:
    purpose = "Sorts questions by topic."
    variant = project.make(classified(6), held_out(3), purpose=purpose)
    found = project.evaluate(variant)
    assert ("purpose", purpose) in found.facts
    prompts = dict(found.prompts)
    assert list(prompts) == ["zero-shot", "2-shot", "desk"]
    assert "new text 0 word" in prompts["zero-shot"]
    # Two worked examples and the question, each with the marks of nano's template.
    mark = prompts["zero-shot"].split("new text")[0]
    assert mark
    assert prompts["2-shot"].count(" word word word") == 3
    # The variant keeps its own prompt, which names no labels.
    assert "account; delivery; refund" not in prompts["desk"]
    told = f"{purpose} Answer with exactly one of these labels and nothing else: "
    assert all(f"{told}refund; delivery; account." in prompts[n] for n in ("zero-shot", "2-shot"))
    assert ("instruction of the prompts", f"{told}refund; delivery; account.") in found.facts
    settings = EvaluationSettings(shots=0, instruction="none", resamples=100)
    prompts = dict(project.evaluate(variant, settings=settings).prompts)
    assert prompts["desk"] == prompts["zero-shot"]
    assert "labels" not in prompts["zero-shot"]


def test_labels_that_mislead_the_base_are_not_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(chat: Any) -> str:
        """Always say the first label where labels are named, else the right one."""
        number = int(re.findall(r"\d+", chat[-1]["content"])[0])
        return LABELS[0 if "these labels" in chat[0]["content"] else number % 3]

    monkeypatch.setattr("kamerton.flows.candidates.engine_of", lambda *_: FakeEngine(said))
    variant = project.make(classified(12), held_out(3))
    found = project.evaluate(variant, settings=EvaluationSettings(shots=0, resamples=100))
    chosen = "12 examples to learn from: 4 answered right with the labels named, 12 with the task"
    assert any(chosen in notice for notice in project.notices)
    prompt = dict(found.prompts)["zero-shot"]
    assert "Decide which class the text belongs to." in prompt
    assert "these labels" not in prompt


def test_an_instruction_without_room_is_left_out_and_said(project: Project) -> None:
    # nano sees 1,024 tokens, and the instruction takes about a hundred of them.
    variant = project.make(classified(6), [*held_out(2), *held_out(1, words=490)])
    project.evaluate(variant, settings=EvaluationSettings(shots=0, resamples=100))
    told = "zero-shot: 1 of 3 questions leave no room for the instruction in the base's context"
    assert told in project.notices


def test_a_place_without_room_for_a_report_is_refused(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "new" / "report.html")
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(EvaluationError, match="is a folder") as caught:
        ensure_writable(tmp_path)
    assert str(tmp_path / "report.html") in str(caught.value.hint)
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be written"):
        ensure_writable(tmp_path / "file" / "report.html")


TOOL = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}


def with_calls(num: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"weather in town {n}?"},
                {
                    "role": "assistant",
                    "tool_calls": [{"name": "get_weather", "arguments": {"town": n, "in": "C"}}],
                },
            ],
            "tools": [TOOL],
        }
        for n in range(first, first + num)
    ]


@pytest.fixture
def base_with_tools(tmp_path: Path) -> dict[str, str]:
    """Nano without its own template: the plain one that is supplied knows tools."""
    folder = tmp_path / "base"
    shutil.copytree(str(files("kamerton.models") / "nano"), folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["chat_template"]
    path.write_text(json.dumps(config))
    return {"id": str(folder), "dtype": "float32"}


def test_calls_are_asked_with_their_tools_and_compared(
    project: Project, base_with_tools: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    class Calls:
        """Calls with its keys in another order; each third call has a wrong argument."""

        def stream(self, chats: Any, generation: Any, tools: Any) -> Any:
            shown.extend(tools)
            for index, chat in enumerate(chats):
                town = int(chat[-1]["content"].split()[-1].rstrip("?"))
                wrong = town if town % 3 else 99
                call = {"name": "get_weather", "arguments": {"in": "C", "town": wrong}}
                yield TokenEvent(index, f"<tool_call>{json.dumps(call)}</tool_call>", "stop")

    measured = {"max_new_tokens": 4, "shots": 0, "resamples": 100}
    variant = project.make(with_calls(7), with_calls(6), base=base_with_tools, evaluate=measured)
    # The embedded engine must take the tools too.
    prompts = dict(project.evaluate(variant).prompts)
    assert all('"get_weather"' in prompts[name] for name in ("zero-shot", "desk"))
    monkeypatch.setattr("kamerton.flows.candidates.engine_of", lambda *_: Calls())
    comparison = project.evaluate(variant).comparison
    assert comparison.metrics == ("tool calls", "tool names")
    assert comparison.measure("tool calls", "desk").value == pytest.approx(4 / 6)
    assert comparison.measure("tool names", "desk").value == 1
    assert len(shown) == 12
    assert all(tools[0]["function"]["name"] == "get_weather" for tools in shown)


def test_tools_that_the_template_cannot_show_are_refused_once(project: Project) -> None:
    variant = project.make(with_calls(7), with_calls(3, first=7))
    with pytest.raises(EvaluationError, match="3 of 3 held-out examples have tools") as caught:
        project.evaluate(variant)
    assert "take a base that knows tools" in str(caught.value.hint)
