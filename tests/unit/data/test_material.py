"""Data sets as their publishers wrote them."""

import os
from pathlib import Path

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings

MATERIAL = Path(
    os.environ.get("KAMERTON_MATERIAL", Path(__file__).parents[4] / "shared" / "material")
)
# Skips where it is absent, and fails in CI.
pytestmark = pytest.mark.usefixtures("material")

RAW = {
    "banking77_test.csv": ("classification", 3080, 0, {}),
    "bitext_first_rows_sample.csv": ("alpaca", 3, 0, {}),
    "clinc150_data_small.json": ("classification", 16_200, 0, {}),
    "dstc8_homes_test_nested.json": (
        "classification",
        148,
        439,
        {"columns": {"text": "userInput.text", "label": "labels.0.slot"}},
    ),
    "hh_harmless_base_test.jsonl.gz": ("preference", 2308, 4, {}),
    "llamafactory_dpo_en_demo_first60.json": ("preference", 60, 0, {}),
    "llamafactory_glaive_toolcall_en_demo_first60.json": ("chat", 60, 0, {}),
    "llamafactory_identity_alpaca_format.json": ("alpaca", 91, 0, {}),
    "llamafactory_kto_en_demo_first60.json": ("feedback", 60, 0, {}),
    "llamafactory_v1_dpo_demo.jsonl": ("preference", 10, 0, {}),
    "positive_frames_wholedev.csv": (
        "prompt",
        835,
        0,
        {"columns": {"prompt": "original_text", "completion": "reframed_text"}},
    ),
    "ru_alpaca_seed_tasks.jsonl": (
        "alpaca",
        137,
        0,
        {"columns": {"input": "instances.0.input", "output": "instances.0.output"}},
    ),
    "rucola_in_domain_dev.csv": (
        "classification",
        983,
        0,
        {"columns": {"text": "sentence", "label": "acceptable"}},
    ),
    "sgd_nested_40_dialogues.json": ("chat", 40, 0, {}),
}
UNTOLD = {
    "clinc150_domains.json": "cannot tell what the rows are",
    "dstc8_homes_test_nested.json": "columns found: .*userInput.text",
    "positive_frames_wholedev.csv": "columns found: original_text, original_with_label",
    "rucola_in_domain_dev.csv": "columns found: acceptable, .*sentence",
    "ru_alpaca_seed_tasks.jsonl": "columns found: .*instances.0.input, instances.0.output",
    "chatterbot_ru/food.yml": "unknown kind of file",
}


def raw(name: str, **settings):
    return load_examples(DataSettings(train=str(MATERIAL / "raw" / name), **settings))


def test_every_original_is_tried():
    names = {str(p.relative_to(MATERIAL / "raw")) for p in (MATERIAL / "raw").rglob("*.*")}
    assert names
    assert names - RAW.keys() - UNTOLD.keys() <= {
        "chatterbot_ru/conversations.yml",
        "chatterbot_ru/money.yml",
    }


@pytest.mark.parametrize("name", RAW)
def test_originals_are_read(name):
    format, num_examples, num_rejections, settings = RAW[name]
    loaded = raw(name, **settings)
    assert loaded.schema.format == format
    assert (len(loaded.examples), len(loaded.rejections)) == (num_examples, num_rejections)


@pytest.mark.parametrize("name", UNTOLD)
def test_what_needs_columns_says_what_it_found(name):
    with pytest.raises(DataError, match=UNTOLD[name]):
        raw(name)


def test_splits_of_clinc():
    loaded = raw("clinc150_data_small.json", split="oos_val,val")
    assert (len(loaded.examples), loaded.num_other_splits) == (3100, 13_100)
    assert {e.label for e in loaded.examples[:100]} == {"oos"}


def test_cells_of_several_lines_and_doubled_quotes():
    example = raw("bitext_first_rows_sample.csv").examples[2]
    assert "\n\n1. Sign in to your account: Visit our {{Online" in example.messages[1]["content"]
    assert '"{{Online Order Interaction}}"' in example.messages[1]["content"]


def test_missing_labels_are_named():
    loaded = raw("dstc8_homes_test_nested.json", **RAW["dstc8_homes_test_nested.json"][3])
    assert {(r.field, r.reason) for r in loaded.rejections} == {
        ("labels.0.slot", "is missing or null")
    }


def test_tool_calls_and_typed_content():
    chat = raw("llamafactory_glaive_toolcall_en_demo_first60.json").examples[0]
    assert [m["role"] for m in chat.messages[2:6]] == ["user", "assistant", "tool", "assistant"]
    assert chat.messages[3]["tool_calls"][0]["function"]["arguments"] == {
        "ingredients": ["chicken", "bell peppers", "rice"]
    }
    assert chat.tools[0]["function"]["name"] == "search_recipes"
    pair = raw("llamafactory_v1_dpo_demo.jsonl").examples[0]
    assert [m["role"] for m in pair.prompt] == ["system", "user"]
    assert pair.chosen[0]["content"].startswith("Abdulah Hasanagic is the proud owner")


def test_dialogue_corpora_name_the_answering_side_system():
    dialogue = raw("sgd_nested_40_dialogues.json").examples[0]
    assert [m["role"] for m in dialogue.messages[:2]] == ["user", "assistant"]


def test_transcripts_are_split_before_the_last_answer():
    pair = raw("hh_harmless_base_test.jsonl.gz").examples[0]
    assert [m["role"] for m in pair.prompt] == ["user", "assistant"] * 2 + ["user"]
    assert pair.prompt[-1]["content"].startswith("okay some of these do not")
    assert pair.chosen[0]["content"].startswith("No, sorry!")
    # The prepared file has the same rows with the prompt in a column of its own.
    prepared = load_examples(MATERIAL / "data" / "hh_harmless.test.jsonl.gz")
    assert prepared.examples[0].prompt == pair.prompt


@pytest.mark.parametrize(
    ("name", "format", "num_rows"),
    [
        ("rucola.dev", "classification", 983),
        ("multidogo_slots.dev", "prompt", 4372),
        ("llamafactory_toolcall_en", "chat", 300),
        ("ru_chatterbot_chat", "chat", 41),
        ("ru_persona_chat", "chat", 15),
        ("ru_pairs_honey", "preference", 13),
        ("tm3_movies_kto", "feedback", 3667),
    ],
)
def test_prepared_data_is_read_whole(name, format, num_rows):
    loaded = load_examples(MATERIAL / "data" / f"{name}.jsonl.gz")
    assert loaded.schema.format == format
    assert (len(loaded.examples), len(loaded.rejections)) == (num_rows, 0)
