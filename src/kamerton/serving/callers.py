"""Who asks, as the headers of a request say it."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from kamerton.core.routing import Caller

__all__ = ["caller_of", "language_of", "plain_id"]

_MOST_LETTERS = 256
_SECRET = ("authorization", "cookie", "proxy-authorization", "x-kamerton-feedback-token")


def caller_of(raw_headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """Read headers.

    Args:
        raw_headers: As ASGI gives them, names in lower case.

    Returns:
        Who asks; the key's name and the `user` of a body are not known here.
    """
    # Clients write UTF-8 into headers, although HTTP means Latin-1.
    plain = {
        name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in raw_headers
    }
    headers = {name: value for name, value in plain.items() if name not in _SECRET}
    said = {
        name: plain_id(headers.get(f"x-kamerton-{name}", ""))
        for name in ("unit", "conversation", "segment", "tenant", "language")
    }
    language = _code(said.pop("language")) or language_of(headers)
    return Caller(**said, language=language, headers=headers)


def plain_id(given: str) -> str:
    """Make an id that can be stored and logged anywhere, the same for the same text.

    Args:
        given: As a client wrote it.

    Returns:
        The text without spaces around it; its hash where it is longer than 256 letters or has
        line ends or other characters that are not printed.
    """
    text = given.strip()
    if len(text) <= _MOST_LETTERS and text.isprintable():
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def language_of(headers: Mapping[str, str]) -> str:
    """Take the language that a browser prefers.

    Args:
        headers: By name in lower case.

    Returns:
        Its code without a region; empty where `accept-language` says none.
    """
    best, weight = "", 0.0
    for part in headers.get("accept-language", "")[:_MOST_LETTERS].split(","):
        name, _, quality = part.partition(";")
        found = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", quality)
        this = float(found[1]) if found else 1.0 if not quality.strip() else 0.0
        if this > weight and (code := _code(name)):
            best, weight = code, this
    return best


def _code(language: str) -> str:
    code = re.split("[-_]", language.strip().lower())[0]
    return code if re.fullmatch("[a-z]{2,3}", code) else ""
