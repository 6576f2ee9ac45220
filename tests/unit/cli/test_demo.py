"""The demo's base: the real one if it is there, else the bundled one, and nothing is fetched."""

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from kamerton.cli.demo import demo
from kamerton.core.errors import ModelError
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows import demo as flow
from kamerton.flows.check import Checked
from kamerton.flows.demo import Demo, DemoBase, base_at_hand, shown_answers
from kamerton.flows.evaluate import Evaluated
from tests.unit.evaluation.compared import answered, spoken

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CHECK = {"name": "facts", "kind": "contains", "field": "facts", "only_if": "facts"}


def evaluated(wrong: int) -> Evaluated:
    """Eight questions, the first without facts, of which the last variant misses one."""
    items = [
        dataclasses.replace(item, extra={"facts": [f"answer {number}"] if number else []})
        for number, item in enumerate(spoken(8))
    ]
    settings = EvaluationSettings.parse({"checks": [CHECK], "resamples": 400})
    answers = [
        answered(items, lambda number: "who knows", "zero-shot"),
        answered(items, lambda number: "answer 9", "4-shot"),
        answered(items, lambda n: "no" if n == wrong else f"answer {n}", "veresk-lora"),
    ]
    comparison = compare(items, answers, settings, against=["zero-shot", "4-shot"])
    return Evaluated(comparison, items, answers, settings.checks, [], [])


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without the real base, on a machine without a network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the demo asked the network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = tmp_path / "cache" / "kamerton" / "bases"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def checked() -> Checked:
    """The audit of the English examples."""
    return Demo(Path("unused"), "smollm2").check(lambda event: None)


@pytest.fixture
def show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bases: Path, checked: Checked
) -> Callable[..., Result]:
    """The verb, with answers of fakes in the place of training and measuring."""
    monkeypatch.setattr(Demo, "check", lambda *_: checked)
    made = SimpleNamespace(variant=SimpleNamespace(name="veresk-lora"))
    monkeypatch.setattr(Demo, "train", lambda *_: made)
    monkeypatch.setattr(Demo, "evaluate", lambda *_: evaluated(wrong=3))
    monkeypatch.setattr(Demo, "report", lambda run, *_: run.folder / "report.html")

    def call(*options: str) -> Result:
        return CliRunner().invoke(demo, ["--to", str(tmp_path / "demo"), *options])

    return call


def test_the_base_is_the_real_one_only_where_it_can_be_read(
    bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base_at_hand() == "nano"
    (bases / FILE).touch()
    monkeypatch.setattr(flow, "find_spec", lambda name: name)
    assert base_at_hand() == "smollm2"
    monkeypatch.setattr(flow, "find_spec", lambda name: None)
    assert base_at_hand() == "nano"


def test_without_the_real_base_the_demo_says_how_to_see_it(show: Callable[..., Result]) -> None:
    done = show()
    assert done.exit_code == 0, done.output
    assert "train a LoRA on builtin:nano" in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "make base" in line)
    assert "make demo" in line
    assert "demo_desk/recipe.toml" in done.stderr
    # Who asks for the bundled base knows.
    assert "make base" not in show("--base", "nano").stderr


def test_the_real_base_is_taken_where_it_is_and_the_other_by_an_option(
    show: Callable[..., Result], bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bases / FILE).touch()
    monkeypatch.setattr(flow, "find_spec", lambda name: name)
    for options, name in (((), "smollm2"), (("--base", "smollm2"), "smollm2"),
                          (("--base", "nano"), "nano")):  # fmt: skip
        done = show(*options)
        assert done.exit_code == 0, done.output
        assert done.stderr.startswith(f"base: builtin:{name}")
        assert f"train a LoRA on builtin:{name}" in done.stderr


def test_the_real_base_is_not_fetched(show: Callable[..., Result]) -> None:
    error = show("--base", "smollm2").exception
    assert isinstance(error, ModelError)
    assert "make base" in str(error.hint)


def test_the_end_shows_answers_and_what_to_do_next(show: Callable[..., Result]) -> None:
    done = show()
    assert "question 1" in done.stdout
    assert "a customer asks, and veresk-lora misses the facts" in done.stdout
    assert "the right answer" in done.stdout
    following = done.stderr.split("next,")[1]
    for verb in ("chat veresk-lora --project", "check", "train", "evaluate"):
        assert f"kamerton {verb}" in following


def test_one_right_and_one_wrong_answer_are_shown() -> None:
    right, wrong = shown_answers(evaluated(wrong=3))
    # The first question has no facts.
    assert (right.question, right.right) == ("question 1", True)
    assert (wrong.question, wrong.right) == ("question 3", False)
    assert wrong.answers == {"zero-shot": "who knows", "4-shot": "answer 9", "veresk-lora": "no"}
    assert wrong.reference == "answer 3"
    (only,) = shown_answers(evaluated(wrong=0))
    assert only.right


@pytest.mark.parametrize("base", ["nano", "smollm2"])
def test_recipes_measure_on_what_chose_nothing(base: DemoBase) -> None:
    recipe = Demo(Path("unused"), base).recipe()
    assert recipe.base.id == f"builtin:{base}"
    assert (flow.DESK / recipe.data.train).is_file()
    assert (flow.DESK / str(recipe.data.holdout)).is_file()
    assert recipe.train.keep == "last"


def test_the_english_half_is_english_and_leaks_nothing(checked: Checked) -> None:
    found = checked.audit
    assert (found.num_examples, found.languages) == (240, {"en": 240})
    assert found.leaked is not None
    assert found.leaked.number == 0
