import csv
import io

import pytest

from kamerton.core.errors import DataError
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Row
from tests.unit.data.files import rejections_of, rows_of, write

CELLS = [
    ["text", "label"],
    ["plain", "x"],
    ['says "hello", twice', "y"],
    ["two\nlines\tand a tab", "z; w"],
    ["Где мой заказ?", "заказ"],
]
ROWS = [dict(zip(CELLS[0], row, strict=True)) for row in CELLS[1:]]


def table(delimiter: str, end: str = "\n") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
        CELLS
    )
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.tab"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_is_told_by_content(tmp_path, name, delimiter, end):
    assert rows_of(write(tmp_path, name, table(delimiter, end))) == ROWS


def test_places_are_the_lines_where_records_begin(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"one\ntwo\nthree",x\nfour,y\n\nfive,z\n')
    assert [row.location.line for row in read_rows(path)] == [2, 5, 7]


def test_index_column_of_pandas_and_empty_trailing_cells_are_dropped(tmp_path):
    assert rows_of(write(tmp_path, "a.csv", ",text,label,\n0,a,x,\n1,b,y,,\n")) == [
        {"text": "a", "label": "x"},
        {"text": "b", "label": "y"},
    ]
    assert rows_of(write(tmp_path, "b.csv", "Unnamed: 0,text\n0,a\n")) == [{"text": "a"}]


def test_records_of_another_width_are_rejected(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\na,x\nb\n"c\nd",y,z\ne,f\n')
    found = [str(rejection).split(":", 1)[1] for rejection in rejections_of(path)]
    assert found == ["3: has 1 cells, the header 2", "4: has 3 cells, the header 2 (lines 4 to 5)"]
    assert [row.fields["text"] for row in read_rows(path) if isinstance(row, Row)] == ["a", "e"]


def test_open_quote_costs_one_row_not_the_rest(tmp_path):
    good = "".join(f"text {i},label\n" for i in range(500))
    path = write(tmp_path, "a.csv", f'text,label\n{good}"never closed,x\n{good}')
    rows = [row for row in read_rows(path) if isinstance(row, Row)]
    assert len(rows) == 1000
    assert [rejection.location.line for rejection in rejections_of(path)] == [502]
    assert "quotes do not pair up" in rejections_of(path)[0].reason


def test_quotes_may_mean_themselves(tmp_path):
    rows = "".join(f'"oh{i} she said\tx\nsize 5" pipe\ty\n' for i in range(20))
    found = rows_of(write(tmp_path, "a.tsv", "text\tlabel\n" + rows))
    assert len(found) == 40
    assert found[0] == {"text": '"oh0 she said', "label": "x"}


def test_backslashes_may_escape_quotes(tmp_path):
    rows = "".join(f'"a \\"quoted\\" word, {i}",x\n' for i in range(20))
    found = rows_of(write(tmp_path, "a.csv", "text,label\n" + rows))
    assert found[3] == {"text": 'a "quoted" word, 3', "label": "x"}


def test_one_column_keeps_its_commas(tmp_path):
    path = write(tmp_path, "a.csv", 'text\nyes, please\n"no, ""thanks"""\n')
    assert rows_of(path) == [{"text": "yes, please"}, {"text": 'no, "thanks"'}]


def test_long_cells_are_read(tmp_path):
    long = "x" * 300_000
    assert rows_of(write(tmp_path, "a.csv", f"text,label\n{long},y\n")) == [
        {"text": long, "label": "y"}
    ]


def test_header_must_be_sound(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv:1: two columns are named 'text'"):
        list(read_rows(write(tmp_path, "a.csv", "text,text\na,b\n")))
    with pytest.raises(DataError, match="the header cannot be read"):
        list(read_rows(write(tmp_path, "b.csv", '"text,label\n' + 20 * "a,b\n")))


def test_empty_table_has_no_rows(tmp_path):
    assert rows_of(write(tmp_path, "a.csv", "")) == []
    assert rows_of(write(tmp_path, "b.csv", "text,label\n")) == []


@pytest.mark.parametrize("first", ["sep=;\r\n", "SEP=;\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_excels_line_that_names_the_delimiter_is_obeyed(tmp_path, first):
    path = write(tmp_path, "a.csv", first + "text;label\na, b, c;x\nd, e, f;y\n")
    assert rows_of(path) == [{"text": "a, b, c", "label": "x"}, {"text": "d, e, f", "label": "y"}]
    assert next(iter(read_rows(path))).location.line == 3


@pytest.mark.parametrize(
    ("title", "line"),
    [("Tickets of the week;\n;\n", 3), ("Tickets of the week\n", 2), ("Tickets\nMay 2025\n", 3)],
)
def test_a_title_above_the_header_is_said(tmp_path, title, line):
    rows = "".join(f"How is it, no {n}?;topic {n % 2}\n" for n in range(5))
    path = write(tmp_path, "a.csv", f"{title}text;label\n{rows}")
    with pytest.raises(DataError, match="line 1 is no header") as error:
        rows_of(path)
    assert str(error.value.hint).startswith(f"the header seems to be line {line}:")


def test_a_missing_header_is_said(tmp_path):
    rows = "".join(f'"Where is it, no {n}?";{("delivery", "return")[n % 2]}\n' for n in range(6))
    with pytest.raises(DataError, match="line 1 is an example and no header: 'delivery'"):
        rows_of(write(tmp_path, "a.csv", rows))


def test_a_repeated_header_is_no_example(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,x\ntext,label\ntext,label\nb,y\n")
    assert [rejection.reason for rejection in rejections_of(path)] == ["repeats the header"] * 2


@pytest.mark.parametrize(
    "text",
    ["text\nHello, you\nYes, fine\nNo, thanks\n", "id\n1\n2\n", "text\nYes; it is\nNo\nOh\n"],
)
def test_a_table_of_one_column_has_a_header(tmp_path, text):
    assert len(rows_of(write(tmp_path, "a.csv", text))) == text.count("\n") - 1
