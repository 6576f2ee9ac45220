import random

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.reading.encodings import encoding_of
from kamerton.data.settings import DataSettings
from tests.unit.data.files import rows_of, write

RUSSIAN = "text,label\nКак заблокировать карту?,card\nГде мой заказ «Весна»?,order\n"
SHORT = "text\tlabel\nНе приходит смс\tsms\nПеревод не дошёл\ttransfer"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [RUSSIAN, SHORT])
def test_unicode_encodings(tmp_path, encoding, text):
    found = rows_of(write(tmp_path, "a.csv", text.encode(encoding)))
    assert len(found) == 2
    assert list(found[0]) == ["text", "label"]
    assert found[0]["text"] in text


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp866"])
@pytest.mark.parametrize("text", [RUSSIAN.replace("«", "").replace("»", ""), SHORT, "Привет"])
def test_cyrillic_encodings_even_of_short_texts(encoding, text):
    assert encoding_of([text.encode(encoding)], "a") == encoding


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Über die Straße müssen wir gehen, schöne Grüße aus München für fünf", "cp1252"),
        ("こんにちは世界、これはテストです。カードを失くしました", "shift_jis"),
        ("你好，我的银行卡丢了怎么办？请帮帮我。", "gb18030"),
    ],
)
def test_other_encodings_decode_to_the_same_text(text, encoding):
    data = text.encode(encoding)
    assert data.decode(encoding_of([data], "a")) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("№,text\n1,Order № 4417 is late\n", "cp1251"),
        ("text\nOrder №4417 «Lamp» is late", "cp1251"),
        ("№;text\n1;Order № 4417 is late\n", "cp866"),
    ],
)
def test_a_number_sign_alone_tells_a_russian_table(text, encoding):
    data = text.encode(encoding)
    assert data.decode(encoding_of([data], "a")) == text


@pytest.mark.parametrize("text", ["note\N{SUPERSCRIPT ONE} 5", "über 5 Stück", "Menü 5"])
def test_western_letters_are_no_number_signs(text):
    assert encoding_of([text.encode("cp1252")], "a") not in ("cp1251", "cp866")


def test_late_letters_decide(tmp_path):
    lines = (
        "text,label\n" + "plain text of some length,x\n" * 40_000 + "Где мой заказ и моя карта,y\n"
    )
    found = rows_of(write(tmp_path, "a.csv", lines.encode("cp1251")))
    assert found[-1] == {"text": "Где мой заказ и моя карта", "label": "y"}


def test_broken_byte_in_utf8_costs_its_row(tmp_path):
    content = RUSSIAN.encode() + b"bad \xff byte,x\n"
    loaded = load_examples(write(tmp_path, "a.csv", content))
    assert len(loaded.examples) == 2
    assert str(loaded.rejections[0]).endswith(
        ":4: text: holds the byte 0xFF, which the file's encoding does not have"
    )


def test_set_encoding_wins(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\né,x\n".encode("cp1252"))
    loaded = load_examples(DataSettings(train=str(path), encoding="cp1252"))
    assert loaded.examples[0].text == "é"


def test_no_encoding_is_an_error(tmp_path, monkeypatch):
    class NoMatch:
        def best(self) -> None:
            return None

    monkeypatch.setattr("charset_normalizer.from_bytes", lambda *_args, **_options: NoMatch())
    with pytest.raises(DataError, match="the text encoding cannot be told") as caught:
        encoding_of([b"\x81\x8d\x8f\x90\x9d" * 9], "a")
    assert "data.encoding" in (caught.value.hint or "")


def test_a_binary_file_is_named_as_such(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(random.Random(0).randbytes(5000))
    with pytest.raises(DataError, match=r"data\.jsonl: this is no text"):
        encoding_of([path.read_bytes()], path.name)
