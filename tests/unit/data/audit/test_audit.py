import gc
import json
import random
import tracemalloc

from kamerton.data import examples_on_disk
from kamerton.data.audit.audit import audit
from kamerton.data.dataset import load_examples
from kamerton.data.split import split
from tests.unit.data.files import load, write_jsonl

INTENTS = {
    "card": "Where is the bank card that I ordered in {}?",
    "refund": "Please give me my money back for the trip to {}.",
}
CITIES = [
    f"{a}{b}" for a in ("Bad", "New", "San", "Old", "Up") for b in ("ton", "ham", "stad", "by")
]
SOUND = [
    {"text": text.format(city), "label": label}
    for label, text in INTENTS.items()
    for city in [*CITIES, *(city[::-1] for city in CITIES)]
]


def test_sound_data_needs_no_warnings(tmp_path):
    loaded = load(tmp_path, SOUND)
    found = audit(loaded)
    assert (found.format, found.num_rows, found.num_examples) == ("classification", 80, 80)
    assert found.labels == {"card": 40, "refund": 40}
    assert found.languages == {"en": 80}
    assert (found.leaked, found.chosen_longer, found.personal) == (None, None, {})
    assert found.lengths["answer"]["characters"].longest == 6
    assert found.lengths["input"]["words"].median == 11
    assert [w for w in found.warnings if "nearly repeat" not in w] == []


def test_pairs_of_one_ranking_are_no_duplicates(tmp_path):
    prompt = "Please write a few words to a customer who has waited for a refund since {}. "
    rows = [
        {"prompt": prompt.format(city) * 5, "answers": [f"{city} {n}" for n in range(4)]}
        for city in CITIES
    ]
    found = audit(load(tmp_path, rows))
    assert (found.format, found.num_rows, found.num_examples) == ("ranking", 20, 120)
    assert (found.near_duplicates.number, found.contradictions.number) == (0, 0)
    again = audit(load(tmp_path, [*rows, rows[0]]))
    assert again.exact_duplicates.number == 6


def test_faults_are_counted_and_worded(tmp_path):
    rows = [
        {"text": f"A question about number {i**3}, what is it?", "label": "x", "note": 1}
        for i in range(60)
    ]
    rows += [
        rows[0],
        {"text": rows[1]["text"], "label": "y"},
        {"text": "mail me at ann@x.org or call +7 916 123-45-67", "label": "x"},
        {"text": "mail me at bob@x.org", "label": "x"},
        {"text": "", "label": "x"},
        {"text": "я" * 60_000, "label": "x"},
    ]
    found = audit(load(tmp_path, rows))
    assert found.reasons == {"text: is empty": 1}
    assert found.exact_duplicates.number == 1
    assert found.exact_duplicates.locations[0].endswith(":61")
    assert found.contradictions.number == 1
    assert {kind: count.number for kind, count in found.personal.items()} == {
        "email": 2,
        "phone": 1,
    }
    assert found.personal["email"].locations[0].endswith(":63")
    assert found.unused_columns == ("note",)
    text = "\n".join(found.warnings)
    for words in (
        "1 of 66 rows cannot be used (1.5%)",
        "1 example repeats an earlier one (1.5%)",
        "98% of rows share one label, 'x'",
        "fewer than 5 rows have the label 'y'",
        "1 question has different answers in different rows, one at",
        "the longest input has 60,000 characters",
        "seem to be in another language: ru (1)",
        "personal data in examples: email (2), phone (1)",
    ):
        assert words in text


def test_pairs(tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": "longer", "rejected": "short"} for i in range(9)]
    rows.append({"prompt": "q", "chosen": "same", "rejected": "same"})
    found = audit(load(tmp_path, rows))
    assert (found.identical_pairs.number, found.chosen_longer) == (1, 0.9)
    assert any("1 pair has the same answer" in warning for warning in found.warnings)
    assert any("the longer one in 90% of pairs" in warning for warning in found.warnings)


def test_open_endings_and_single_labels(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": [*turns, turns[0]], "label": "one"}, {"messages": turns, "label": "one"}]
    found = audit(load(tmp_path, rows))
    assert found.open_endings.number == 1
    assert any("1 conversations end with a turn" in warning for warning in found.warnings)
    assert any("all rows have one label, 'one'" in warning for warning in found.warnings)
    assert any("only 2 examples" in warning for warning in found.warnings)


def test_leakage_is_against_the_rest(tmp_path):
    loaded = load(tmp_path, [*SOUND, SOUND[0]])
    train, holdout = split(loaded.examples, 0.3, 0)
    assert audit(loaded, holdout, train=train).leaked.number == 0
    assert len(train) > 1
    foreign = load(tmp_path, SOUND[:3]).examples
    leaked = audit(loaded, foreign).leaked
    assert leaked.number == 3
    assert leaked.locations[0].endswith(":1")


def test_json_holds_everything(tmp_path):
    found = audit(load(tmp_path, [*SOUND, 7]), load(tmp_path, SOUND[:1]).examples)
    values = json.loads(json.dumps(found.to_json()))
    assert values["rejections"][0]["reason"] == "a row must be an object, got a number"
    assert values["lengths"]["input"]["characters"]["longest"] > 40
    assert values["leaked"]["number"] == 1
    assert set(values) == set(type(found).__dataclass_fields__)


def test_memory_does_not_grow_with_the_text(monkeypatch, tmp_path):
    monkeypatch.setattr(examples_on_disk, "_MEMORY_BYTES", 1 << 16)
    monkeypatch.setattr(examples_on_disk, "_BLOCK_BYTES", 1 << 16)
    chance = random.Random(0)
    words = [f"слово{i}" for i in range(500)]

    def peak_of(num_rows: int) -> int:
        # Cyrillic needs no language model, whose size has nothing to do with the data.
        texts = (" ".join(chance.choices(words, k=600)) for _ in range(num_rows))
        path = write_jsonl(tmp_path, ({"text": text} for text in texts))
        loaded = load_examples(path)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        # Reading itself needs a few megabytes to tell the encoding, whatever the file's size.
        tracemalloc.reset_peak()
        train, holdout = split(loaded.examples, 0.1, 0)
        found = audit(loaded, holdout, train=train)
        assert (found.num_examples, found.near_duplicates.number) == (num_rows, 0)
        assert held < 0.2 * path.stat().st_size
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak_of(30)
        assert peak_of(120) < peak_of(30) + 200_000
    finally:
        tracemalloc.stop()


def test_labels_that_differ_in_case_spaces_or_a_full_stop_are_named(tmp_path):
    labels = ["Card", "card", "card.", "my card", "my\xa0card", "refund", "none", "None ", "..."]
    found = audit(load(tmp_path, [{"text": f"t {i}", "label": x} for i, x in enumerate(labels)]))
    alike = [w.partition(": ")[2] for w in found.warnings if w.startswith("labels differ only")]
    assert alike == [
        "'Card' (1), 'card' (1), 'card.' (1)",
        "'my card' (1), 'my\\xa0card' (1)",
        "'none' (1), 'None' (1)",
    ]
    assert found.empty_words.number == 0


def test_the_words_of_empty_cells_are_named(tmp_path):
    pairs = [("nan", "Yes."), ("Is it here?", " NaN"), ("Is it?", "None"), ("What is null?", "0")]
    found = audit(load(tmp_path, [{"prompt": q, "completion": a} for q, a in pairs]))
    assert found.empty_words.number == 3
    assert any("3 examples ask or answer no more than 'nan'" in w for w in found.warnings)
    formulas = [{"prompt": "q", "completion": word} for word in ("#N/A", "#ИМЯ?", "#1")]
    assert audit(load(tmp_path, formulas)).empty_words.number == 2
    classes = audit(load(tmp_path, [{"text": "t", "label": "none"}, {"text": "u", "label": "nan"}]))
    assert classes.empty_words.number == 1
