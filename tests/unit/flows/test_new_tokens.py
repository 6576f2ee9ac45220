"""Words of an adapter's own, from the recipe to answers, comparisons and exports."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from kamerton.core.events import Event, StepDone
from kamerton.core.protocols import Generation
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.verify import verify_variant
from tests.e2e.project import kamerton, make_project

WORDS = ["Kolibri-7", "Квантор"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    make_project(folder, num_rows=4)
    rows = [
        {"prompt": f"What is in box {n}?", "completion": f"A {WORDS[n % 2]} is in box {n}."}
        for n in range(24)
    ]
    (folder / "desk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def variant(folder: Path) -> Variant:
    options = (
        f"adapter.new_tokens={json.dumps(WORDS, ensure_ascii=False)}",
        "train.learning_rate=1e-2",
        "train.epochs=6",
    )
    recipe = Recipe.read(folder / "recipe.toml", options)
    made = make_variant(recipe, folder, Workspace(folder), lambda event: None)
    return read_variant(made.variant.folder)


def test_a_word_is_one_token_and_is_answered(variant: Variant) -> None:
    assert verify_variant(variant) > 0.05
    base = load_base_for(variant)
    ready = make_ready(variant, base)
    ids = [ready.renderer.tokenizer.convert_tokens_to_ids(word) for word in WORDS]
    assert ids == [len(base.tokenizer), len(base.tokenizer) + 1]
    chat = ({"role": "user", "content": "What is in box 4?"},)
    events = list(ready.engine.stream([chat], Generation(max_tokens=24)))
    text = "".join(event.text for event in events)
    assert any(word in text for word in WORDS)
    # The word came in one piece.
    assert any(word in event.text for event in events for word in WORDS)


def test_a_value_model_reads_the_new_words_too(folder: Path) -> None:
    (folder / "rewards.py").write_text("def score(messages, answer, row): return len(answer)\n")
    options = (
        "name=ppo",
        f"adapter.new_tokens={json.dumps(WORDS, ensure_ascii=False)}",
        'objective={kind="ppo", max_tokens=8,'
        ' rewards=[{kind="function", function="rewards.py:score"}]}',
        "train.max_steps=1",
    )
    recipe = Recipe.read(folder / "recipe.toml", options)
    events: list[Event] = []
    make_variant(recipe, folder, Workspace(folder), events.append)
    (step,) = (event for event in events if isinstance(event, StepDone))
    assert step.metrics["value_error"] > 0


def test_it_is_compared_with_the_base_that_has_no_such_words(
    variant: Variant, folder: Path
) -> None:
    evaluated = evaluate_variants([variant], Workspace(folder), lambda event: None)
    losses = {cost.variant: cost.holdout_loss for cost in evaluated.comparison.costs}
    assert losses["desk"] < losses["zero-shot"]


def test_its_merged_model_and_its_peft_files_have_the_words(
    variant: Variant, tmp_path: Path
) -> None:
    merged = export_variant(variant, tmp_path / "merged", "merged")
    assert merged.largest < 1e-3
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert len(tokenizer) == len(model.get_input_embeddings().weight)
    assert tokenizer("Kolibri-7", add_special_tokens=False)["input_ids"] == [len(tokenizer) - 2]
    assert export_variant(variant, tmp_path / "peft", "peft").largest == 0
    assert (tmp_path / "peft" / "tokenizer.json").exists()
    gguf = export_variant(variant, tmp_path / "gguf", "gguf")
    assert gguf.largest < 1e-3
    assert merged.moved == gguf.moved


def test_check_shows_them_as_they_are_trained(folder: Path) -> None:
    words = f"adapter.new_tokens={json.dumps(WORDS, ensure_ascii=False)}"
    short, long = (
        kamerton("check", "recipe.toml", "--show", "1", *more, cwd=folder).stdout
        for more in (("--set", words), ())
    )
    assert short != long
    assert "Kolibri-7" in short
