"""Who asks, as a request says it."""

import hashlib

import pytest

from kamerton.serving.callers import caller_of, language_of, plain_id


def test_headers_say_who_asks():
    said = {
        "x-kamerton-unit": "shop-7",
        "x-kamerton-segment": "опт",
        "x-kamerton-language": "RU-ru",
        "accept-language": "en",
        "authorization": "Bearer secret",
        "cookie": "session=secret",
        "x-kamerton-feedback-token": "secret",
    }
    found = caller_of((name.encode(), value.encode()) for name, value in said.items())
    assert (found.unit, found.segment) == ("shop-7", "опт")
    assert (found.language, found.tenant, found.conversation) == ("ru", "", "")
    assert "secret" not in str(found)
    assert caller_of([(b"x-kamerton-segment", b"\xff")]).segment == "\ufffd"


def test_an_id_is_plain_or_its_hash():
    assert plain_id(" user-1 ") == "user-1"
    for strange in ("a\nb", "a\r\nx-evil: 1", "a\0b", "u" * 257, "\ud800"):
        digest = hashlib.sha256(strange.encode("utf-8", "surrogatepass")).hexdigest()
        assert plain_id(strange) == f"sha256:{digest}"


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("", ""),
        ("*", ""),
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("en;q=0.3, ru;q=0.7", "ru"),
        ("en;q=0, de;q=0.1", "de"),
        ("en;q=nonsense, fr", "fr"),
        (";;;,,,q=1", ""),
        ("1234, ru", "ru"),
    ],
)
def test_the_language_that_a_browser_prefers(said, language):
    assert language_of({"accept-language": said}) == language
