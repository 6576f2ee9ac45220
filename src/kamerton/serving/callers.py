"""Who asks, as the headers of a request say it."""

from collections.abc import Iterable

from kamerton.core.routing import Caller

__all__ = ["caller_of"]

_PREFIX = "x-kamerton-"
_SECRET = ("authorization", "cookie", "proxy-authorization", "x-kamerton-feedback-token")


def caller_of(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """Read headers.

    Args:
        headers: As ASGI gives them, names in lower case.

    Returns:
        Who asks; the key's name and the `user` of a body are not known here.
    """
    plain = {name.decode("latin-1"): _text(value) for name, value in headers}
    kept = {name: value for name, value in plain.items() if name not in _SECRET}
    # "ru-RU,ru;q=0.9" prefers Russian.
    first = kept.get("accept-language", "").partition(",")[0].partition(";")[0].partition("-")[0]
    return Caller(
        unit=kept.get(f"{_PREFIX}unit", ""),
        conversation=kept.get(f"{_PREFIX}conversation", ""),
        segment=kept.get(f"{_PREFIX}segment", ""),
        tenant=kept.get(f"{_PREFIX}tenant", ""),
        language=kept.get(f"{_PREFIX}language", "") or first.strip().lower().replace("*", ""),
        headers=kept,
    )


def _text(value: bytes) -> str:
    """Decode as UTF-8, which clients send although HTTP means Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
