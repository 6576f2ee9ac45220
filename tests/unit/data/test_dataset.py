import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.prepared import prepare
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write, write_jsonl

GOOD = [{"text": f"text {i}", "label": "xy"[i % 2]} for i in range(40)]


def test_examples_and_rejections_are_all_rows(tmp_path):
    loaded = load(tmp_path, [*GOOD[:3], {"text": "", "label": "x"}, 7, *GOOD[3:]])
    assert (len(loaded.examples), len(loaded.rejections), loaded.num_rows) == (40, 2, 42)
    assert [rejection.location.line for rejection in loaded.rejections] == [4, 5]
    assert loaded.unusable == 2 / 42
    assert dict(loaded.schema.sources) == {"text": "text", "label": "label"}


def test_a_row_of_several_answers_counts_once(tmp_path):
    answers = [
        {"prompt": "q", "answers": ["a", "b", "c"]},
        {"prompt": "r", "answers": ["a", "b"]},
        {"prompt": "s", "answers": ["a"]},
    ]
    loaded = load(tmp_path, answers)
    assert (len(loaded.examples), len(loaded.rejections), loaded.num_rows) == (4, 1, 3)
    assert loaded.unusable == 1 / 3
    fewer = load(tmp_path, answers, pairs="best-worst")
    assert len(fewer.examples) == 2
    assert fewer.fingerprint != loaded.fingerprint


def test_fingerprint_is_of_content_and_order(tmp_path):
    first = load(tmp_path, GOOD).fingerprint
    assert load(tmp_path, [{**row, "note": "n"} for row in GOOD]).fingerprint == first
    assert load(tmp_path, GOOD[::-1]).fingerprint != first
    assert load(tmp_path, GOOD[1:]).fingerprint != first


def test_too_many_unusable_rows_stop_training(tmp_path):
    loaded = load(tmp_path, [*GOOD, *[{"text": "t", "label": None}] * 4])
    ensure_usable(loaded, 0.1)
    with pytest.raises(DataError, match=r"4 of 44 rows cannot be used \(9\.1%") as caught:
        ensure_usable(loaded, 0.05)
    assert "rows.jsonl:41: label: is missing or null" in str(caught.value)
    assert "and 1 more" in str(caught.value)
    assert caught.value.hint == f"kamerton check {loaded.source} lists them all"


def test_nothing_usable_stops_training_whatever_the_share(tmp_path):
    loaded = load(tmp_path, [{"text": "t", "label": ""}])
    with pytest.raises(DataError, match="1 of 1 rows cannot be used"):
        ensure_usable(loaded, 1.0)


def test_empty_and_hopeless_files_are_errors(tmp_path):
    with pytest.raises(DataError, match="holds no rows"):
        load(tmp_path, [])
    with pytest.raises(DataError, match="none of 150 rows can be read:\n.*:1: a row must be"):
        load(tmp_path, [7] * 150)


def test_a_bad_beginning_is_survived(tmp_path):
    loaded = load(tmp_path, [*[7] * 150, *GOOD])
    assert (len(loaded.examples), len(loaded.rejections)) == (40, 150)


@pytest.mark.parametrize("num_before", [1, 200])
def test_rows_of_two_kinds_are_an_error_naming_both(tmp_path, num_before):
    rows = [*GOOD[:2] * num_before, {"prompt": "q", "completion": "a"}]
    line = 2 * num_before + 1
    with pytest.raises(DataError, match=rf":1 is a 'classification' row, .*:{line} a 'prompt' row"):
        load(tmp_path, rows)
    loaded = load(tmp_path, rows, format="classification")
    assert [rejection.location.line for rejection in loaded.rejections] == [line]


def test_a_forgotten_field_is_no_other_kind(tmp_path):
    loaded = load(tmp_path, [*GOOD, {"text": "t"}])
    assert [str(r).split(": ", 1)[1] for r in loaded.rejections] == ["label: is missing or null"]


def test_splits_inside_a_file(tmp_path):
    rows = [{**row, "split": "train" if i < 30 else "test"} for i, row in enumerate(GOOD)]
    assert load(tmp_path, rows).splits == {"train": 30, "test": 10}
    loaded = load(tmp_path, rows, split="test")
    assert (len(loaded.examples), loaded.num_other_splits) == (10, 30)
    assert len(load(tmp_path, rows, split="train, test").examples) == 40
    with pytest.raises(DataError, match=r"no row belongs to data\.split = 'dev'") as caught:
        load(tmp_path, rows, split="dev")
    assert caught.value.hint == "splits found: train, test"


def test_prepare_splits_by_share_or_takes_a_file(tmp_path):
    train = write_jsonl(tmp_path, GOOD)
    prepared = prepare(DataSettings(train=str(train), holdout=0.25))
    assert len(prepared.train) + len(prepared.holdout) == 40
    assert 1 <= len(prepared.holdout) <= 20

    held = write_jsonl(tmp_path, [{"text": "mail a@b.org", "label": "x"}], "held.jsonl")
    prepared = prepare(DataSettings(train=str(train), holdout=str(held), redact=True))
    assert [example.text for example in prepared.holdout] == ["mail [EMAIL_1]"]
    assert prepared.loaded_holdout is not None
    assert len(prepared.train) == 40

    other = write_jsonl(tmp_path, [{"prompt": "q", "completion": "a"}], "other.jsonl")
    with pytest.raises(DataError, match="holds prompt rows, .* holds classification rows"):
        prepare(DataSettings(train=str(train), holdout=str(other)))


def test_of_one_long_text_the_end_is_held_out(tmp_path):
    text = "\n".join(f"Line {n} tells what happened then." for n in range(200))
    path = write(tmp_path, "book.txt", text)
    prepared = prepare(DataSettings(train=str(path), holdout=0.2))
    (train,), (holdout,) = prepared.train, prepared.holdout
    assert train.text + holdout.text == text
    assert train.text.endswith("\n")
    assert 35 <= holdout.text.count("Line") <= 45
    assert prepared.loaded.notices == ("there is one text: its end is held out",)
    assert not prepare(DataSettings(train=str(path), holdout=0)).holdout


def test_a_short_text_is_not_divided(tmp_path):
    path = write(tmp_path, "note.txt", "One line.")
    prepared = prepare(DataSettings(train=str(path)))
    assert (len(prepared.train), len(prepared.holdout)) == (1, 0)


def test_prepare_refuses_unusable_data(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,x\nb\nc,y\n")
    with pytest.raises(DataError, match="1 of 3 rows cannot be used"):
        prepare(DataSettings(train=str(path)))


def test_redaction_is_consistent_inside_a_data_set(tmp_path):
    rows = [
        {"prompt": "I am ann@x.org", "completion": "Hello ann@x.org"},
        {"prompt": "I am bob@x.org", "completion": "Not ANN@x.org?"},
    ]
    path = write_jsonl(tmp_path, rows)
    loaded = load_examples(DataSettings(train=str(path), redact=True))
    assert [[m["content"] for m in e.messages] for e in loaded.examples] == [
        ["I am [EMAIL_1]", "Hello [EMAIL_1]"],
        ["I am [EMAIL_2]", "Not [EMAIL_1]?"],
    ]
