import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from kamerton.flows.redact import Redacted, write_redacted
from tests.unit.data.files import rows_of, write, write_jsonl

ROWS = [
    {"text": 'I said\t"call 8 916 123-45-67",\nагент', "label": "call", "ticket": "7"},
    {"text": "+7 (916) 123-45-67 or ann@x.org", "label": "call", "ticket": "8"},
    {"text": "nothing\there  ", "label": "", "ticket": "ann@x.org"},
]
MASKED = [
    {"text": 'I said\t"call [PHONE_1]",\nагент', "label": "call", "ticket": "7"},
    {"text": "[PHONE_1] or [EMAIL_1]", "label": "call", "ticket": "8"},
    {"text": "nothing\there  ", "label": "", "ticket": "[EMAIL_1]"},
]


def redact(path: Path) -> tuple[Redacted, Path]:
    copy = path.parent / "copy" / "rows.jsonl"
    return write_redacted(DataSettings(train=str(path)), copy, lambda event: None), copy


def as_csv() -> bytes:
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, list(ROWS[0]))
    table.writeheader()
    table.writerows(ROWS)
    return file.getvalue().encode()


def as_parquet() -> bytes:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", as_csv),
        ("rows.csv.gz", lambda: gzip.compress(as_csv())),
        ("rows.parquet", as_parquet),
        ("rows.json", lambda: json.dumps(ROWS).encode()),
    ],
)
def test_rows_of_any_file_keep_all_but_what_is_masked(tmp_path, name, content):
    done, copy = redact(write(tmp_path, name, content()))
    assert rows_of(copy) == MASKED
    assert done == Redacted(num_values=2, num_rows=3, num_left_out=0)
    # The row with an empty label is still there to be listed, at its line.
    assert [r.location.line for r in load_examples(copy).rejections] == [3]


def test_roles_rows_and_hidden_places_share_placeholders(tmp_path):
    turns = [
        {"role": "user", "content": "Я ann@x.org", "id": 1.50},
        {"role": "assistant", "content": "Hello ANN@x.org, not bob@x.org"},
    ]
    rows = [
        {"messages": turns, "phone": 79161234567, "big": 12345678901234567890, "none": None},
        # In JSON stored as text, "\\n" before a number would look like a letter.
        {"messages": json.dumps([{"role": "user", "content": "call\n89161234567"}, turns[1]])},
    ]
    done, copy = redact(write_jsonl(tmp_path, rows))
    first, second = rows_of(copy)
    assert [turn["content"] for turn in first["messages"]] == [
        "Я [EMAIL_1]",
        "Hello [EMAIL_1], not [EMAIL_2]",
    ]
    assert first["messages"][0]["id"] == 1.5
    assert (first["phone"], first["big"], first["none"]) == (
        "[PHONE_1]",
        12345678901234567890,
        None,
    )
    assert json.loads(second["messages"])[0]["content"] == "call\n[PHONE_1]"
    assert done.num_values == 3


def test_unreadable_rows_are_left_out_and_counted(tmp_path):
    good = json.dumps({"text": "half \ud800", "label": "x"})
    path = write(tmp_path, "rows.jsonl", f'{good}\n{{"text": "ann@x.org\n{good}\n')
    done, copy = redact(path)
    assert (done.num_rows, done.num_left_out) == (2, 1)
    assert b"ann" not in copy.read_bytes()
    assert [row["text"] for row in rows_of(copy)] == ["half \ud800"] * 2


def test_a_copy_is_json_lines_and_never_the_data_set_itself(tmp_path):
    path = write_jsonl(tmp_path, ROWS)
    settings = DataSettings(train=str(path))
    with pytest.raises(DataError, match="writes JSON Lines") as caught:
        write_redacted(settings, tmp_path / "copy.csv", lambda event: None)
    assert str(caught.value.hint).endswith("copy.jsonl")
    with pytest.raises(DataError, match="must not replace the data set"):
        write_redacted(settings, path, lambda event: None)
    assert rows_of(path) == ROWS
