"""Rows with new columns, as files."""

import json
from pathlib import Path

import pytest

from kamerton.core.errors import SettingsError
from kamerton.data.answered_files import TableForm, new_names, table_form, write_answered


@pytest.mark.parametrize(
    ("name", "content", "to", "form"),
    [
        ("a.csv", b"x;y\n1;2\n", "b.csv", TableForm(";", has_mark=False)),
        ("a.csv", b"\xef\xbb\xbfx|y\n1|2\n", "b.csv", TableForm("|", has_mark=True)),
        ("a.csv", "слово,да\nкот,2\nпёс и ещё,3\n".encode("cp1251"), "b.csv", TableForm(",")),
        ("a.csv", b"sep=;\nx;y\n1;2\n", "b.csv", TableForm(";", has_mark=False)),
        ("a.csv", b"x\nred, blue\n", "b.csv", TableForm(",", has_mark=False)),
        ("a.csv", b"x;y\n1;2\n", "b.tsv", TableForm("\t", has_mark=False)),
        ("a.tsv", b"x\ty\n1\t2\n", "b.csv", TableForm(",", has_mark=False)),
        ("a.jsonl", b'{"x": 1}\n', "b.csv", TableForm(",", has_mark=True)),
    ],
)
def test_a_table_is_written_as_the_one_that_was_read(
    name: str, content: bytes, to: str, form: TableForm, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert table_form(tmp_path / name, tmp_path / to) == form


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cmd", "'-cmd"),
        ("+a", "'+a"),
        ("\t=1", "'\t=1"),
        ("-5", "-5"),
        ("+3.5e2", "+3.5e2"),
        ("a=b", "a=b"),
        (-5, "-5"),
        (None, ""),
        ([1, "ё"], '"[1, ""ё""]"'),
        ('say "hi", twice', '"say ""hi"", twice"'),
    ],
)
def test_no_spreadsheet_runs_what_a_model_wrote(value: object, cell: str, tmp_path: Path) -> None:
    form = TableForm(",", has_mark=False)
    write_answered(tmp_path / "b.csv", [{"x": "=mine"}], [{"y": value}], ["x"], ["y"], form)
    assert (tmp_path / "b.csv").read_bytes().decode() == f"x,y\r\n=mine,{cell}\r\n"


def test_lines_keep_the_keys_of_their_row(tmp_path: Path) -> None:
    rows = [{"b": 1, "a": {"c": None}}, {}]
    new = [{"label": "=x"}, {}]
    write_answered(tmp_path / "b.jsonl", rows, new, ["b", "a"], ["label"], TableForm())
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert lines == [{"b": 1, "a": {"c": None}, "label": "=x"}, {"label": None}]
    assert list(lines[0]) == ["b", "a", "label"]


def test_parquet_takes_values_of_several_kinds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"n": 1, "mixed": "a"}, {"n": 2, "mixed": [3]}]
    new = [{"confidence": 0.5}, {}]
    names = ["confidence", "label"]
    write_answered(tmp_path / "b.parquet", rows, new, ["n", "mixed"], names, TableForm())
    assert parquet.read_table(tmp_path / "b.parquet").to_pydict() == {
        "n": [1, 2],
        "mixed": ["a", "[3]"],
        "confidence": [0.5, None],
        "label": [None, None],
    }


def test_new_columns_hide_none_of_the_file() -> None:
    assert new_names(["id", "label"], ["label", "confidence"], "predicted.") == {
        "label": "predicted.label",
        "confidence": "confidence",
    }
    with pytest.raises(SettingsError, match=r"column 'predicted\.label' already"):
        new_names(["label", "predicted.label"], ["label"], "predicted.")
