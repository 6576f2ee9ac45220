"""Whatever bytes a file holds, reading it gives rows, rejections or a DataError."""

import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.examples import SourceLocation
from kamerton.data.formats.detection import settle_schema
from kamerton.data.formats.parsing import parse_row
from kamerton.data.identity import content_hash
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, Row

NAMES = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.parquet", "a", "a.jsonl.gz", "a.csv.gz")

ROWS = [
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {"prompt": "q", "answers": ["a", "b", "c"]},
    {"text": "Привет", "label": "x"},
]
pieces = st.sampled_from(
    [b'"', b"\n", b"\r", b",", b"\t", b"{", b"}", b"[", b"]", b"\\", b"\\ud800", b"\0", b"NaN"]
    + [b"\xef\xbb\xbf", b"\xff\xfe", b"PAR1", b"\x1f\x8b", "я".encode(), "я".encode("cp1251")]
    + [json.dumps(row).encode() for row in ROWS]
    + [b"text,label\n", b"text\tlabel\n", b'"text":', b"1e999", b"-", b"tru"]
)
contents = st.one_of(
    st.binary(max_size=200), st.lists(pieces | st.binary(max_size=4), max_size=20).map(b"".join)
)
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            rows = list(read_rows(path))
        except DataError:
            rows = []
        assert all(isinstance(row, Row | Rejection) and row.location.line >= 1 for row in rows)
        try:
            loaded = load_examples(path)
        except DataError:
            return
        num_used = loaded.num_rows - len(loaded.rejections)
        if loaded.schema.format != "ranking":
            assert num_used == len(loaded.examples)
        assert 0 <= num_used <= len(loaded.examples)
        # What is accepted can be hashed, masked and stored.
        for example in map(Redactor().redact, loaded.examples):
            assert content_hash(example).encode()
            json.dumps(dict(example.extra), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("name", NAMES)
@settings(fuzz, max_examples=60)
@given(content=contents, packed=st.booleans())
def test_any_bytes_under_any_name(name, content, packed):
    read(name, gzip.compress(content) if packed else content)


@settings(fuzz, max_examples=100)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3), st.booleans())
def test_damaged_gzip(at, damage, cut):
    packed = gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode() * 3)
    at %= len(packed)
    read("a.jsonl.gz", packed[:at] + damage + (b"" if cut else packed[at + len(damage) :]))


@settings(fuzz, max_examples=100)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3), st.booleans())
def test_damaged_parquet(at, damage, cut):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(arrow.table({"text": ["a", "b"] * 9, "label": ["x", "y"] * 9}), file)
    whole = file.getvalue()
    at %= len(whole)
    read("a.parquet", whole[:at] + damage + (b"" if cut else whole[at + len(damage) :]))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "name"]), inner)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "messages",
        "prompt",
        "completion",
        "chosen",
        "rejected",
        "text",
        "label",
        "instruction",
        "output",
        "input",
        "tools",
        "system",
        "history",
        "conversations",
        "answers",
        "ranks",
        "scores",
    ]
)


@settings(fuzz, max_examples=150)
@given(st.dictionaries(names, values, max_size=5))
def test_any_fields_are_an_example_or_a_reason(fields):
    try:
        schema = settle_schema([fields], name="a")
    except DataError:
        return
    outcome = parse_row(Row(SourceLocation("a", 1), fields), schema)
    if isinstance(outcome, Rejection):
        assert outcome.reason
    else:
        assert outcome
        assert all(map(content_hash, outcome))
