import gzip
import json

import pytest

from kamerton.core.errors import DataError, MissingExtraError
from kamerton.data.reading.hub import HubSource, hub_source, read_hub
from kamerton.data.reading.readers import READABLE, read_rows
from tests.unit.data.files import rows_of, write

ROWS = [{"text": "Привет", "label": "x"}, {"text": "b", "label": "y"}]
CONTENTS = {
    "a.jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "a.json": json.dumps(ROWS),
    "a.csv": "text,label\nПривет,x\nb,y\n",
    "a.tsv": "text\tlabel\nПривет\tx\nb\ty\n",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_gzip_is_told_by_content(tmp_path, name):
    packed = gzip.compress(CONTENTS[name].encode())
    assert rows_of(write(tmp_path, f"{name}.gz", packed)) == ROWS
    assert rows_of(write(tmp_path, name, packed)) == ROWS
    assert rows_of(write(tmp_path, f"{name}.gz", CONTENTS[name])) == ROWS


@pytest.mark.parametrize("name", CONTENTS)
def test_damaged_gzip_is_an_error(tmp_path, name):
    packed = gzip.compress(CONTENTS[name].encode() * 50)
    path = write(tmp_path, f"{name}.gz", packed[: len(packed) // 2])
    with pytest.raises(DataError, match="cannot be read to its end"):
        list(read_rows(path))


def test_parquet_and_its_values(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    import datetime
    import decimal

    columns = {
        "text": ["Привет", None],
        "score": [float("nan"), 2.5],
        "when": [datetime.date(2026, 1, 2), None],
        "price": [decimal.Decimal("1.50"), None],
        "image": [b"123", None],
        "messages": [[{"role": "user", "content": "q", "name": None}], []],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table(columns), path)
    expected = [
        {
            "text": "Привет",
            "score": None,
            "when": "2026-01-02",
            "price": "1.50",
            "image": "<3 bytes>",
            "messages": [{"role": "user", "content": "q", "name": None}],
        },
        {
            "text": None,
            "score": 2.5,
            "when": None,
            "price": None,
            "image": None,
            "messages": [],
        },
    ]
    assert rows_of(path) == expected
    assert rows_of(write(tmp_path, "b.parquet.gz", gzip.compress(path.read_bytes()))) == expected
    assert rows_of(write(tmp_path, "c.bin", path.read_bytes())) == expected
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(read_rows(write(tmp_path, "d.parquet", path.read_bytes()[:100])))


def test_paragraphs_of_plain_text(tmp_path):
    path = write(tmp_path, "a.txt", "\none\ntwo\n \n\nthree")
    assert [(row.location.line, row.fields["text"]) for row in read_rows(path)] == [
        (2, "one\ntwo"),
        (6, "three"),
    ]


def test_progress_is_told_in_bytes_of_the_file(tmp_path):
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt"):
        content = CONTENTS.get(name, "text")
        for path in (
            write(tmp_path, name, content),
            write(tmp_path, f"{name}.gz", gzip.compress(content.encode())),
        ):
            told: list[tuple[int, int | None]] = []
            list(read_rows(path, report=lambda *numbers, told=told: told.append(numbers)))
            size = path.stat().st_size
            assert told[-1] == (size, size)
            assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.jsonl", "no such file"),
        ("folder/missing.csv", "no such file"),
        ("a\0b", "no such file"),
        ("x" * 5000, "no such file"),
    ],
)
def test_missing_files(source, message):
    with pytest.raises(DataError, match=message):
        list(read_rows(source))


def test_folders_and_unknown_kinds(tmp_path):
    with pytest.raises(DataError, match="must be a file, found a folder"):
        list(read_rows(tmp_path))
    with pytest.raises(DataError, match="unknown kind of file") as caught:
        list(read_rows(write(tmp_path, "a.yml", "conversations:\n- - hi\n")))
    assert all(suffix in (caught.value.hint or "") for suffix in READABLE)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hub:owner/name", HubSource("owner/name")),
        ("owner/name", HubSource("owner/name")),
        ("hub:imdb", HubSource("imdb")),
        ("hub:openai/gsm8k@main:test", HubSource("openai/gsm8k", "main", "test")),
        ("hub:a/b:train[:10%]", HubSource("a/b", None, "train[:10%]")),
        ("imdb", None),
        ("a/b/c", None),
        ("../name", None),
        ("hub:", None),
    ],
)
def test_hub_ids(text, source):
    assert hub_source(text) == source


def test_hub_rows_and_failures():
    source = HubSource("owner/name", split="test")
    rows = list(read_hub(source, None, lambda _source: [{"text": "a", "n": float("nan")}]))
    assert [(str(row.location), row.fields) for row in rows] == [
        ("hub:owner/name:test:1", {"text": "a", "n": None})
    ]

    def offline(_source: HubSource):
        yield {"text": "a"}
        raise ConnectionError("no route to host")

    with pytest.raises(DataError, match="owner/name.*: no route to host"):
        list(read_hub(source, None, offline))


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match="datasets is needed"):
        list(read_rows("hub:owner/name"))
    with pytest.raises(MissingExtraError, match="pyarrow is needed"):
        list(read_rows(write(tmp_path, "a.parquet", b"PAR1")))


def test_a_path_whose_backslashes_became_other_characters_is_told():
    with pytest.raises(DataError, match=r"C:\\temp\\new\.jsonl: no such file") as error:
        list(read_rows("C:\temp\new.jsonl"))
    assert "single quotes" in str(error.value.hint)
