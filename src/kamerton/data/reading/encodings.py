"""Find out how a text file is encoded.

UTF-8 is told from its bytes. Short Cyrillic texts in one-byte encodings are told by the letters
that Russian uses most, because general detectors mistake them; charset-normalizer does the rest.
"""

import codecs
from collections.abc import Iterable
from itertools import pairwise

from kamerton.core.errors import DataError

__all__ = ["encoding_of"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CYRILLIC = ("cp1251", "koi8-r", "cp866")
_WITH_NUMBER_SIGN = ("cp1251", "cp866")
_NUMBER_SIGN = "№"
_FREQUENT = frozenset("оеаинтсрвлкмду")
_RUSSIAN = frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")
_PUNCTUATION = frozenset("«»—–№…„“”’\xa0°©")
_OTHERS = [
    "cp1252",
    "cp1250",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1251",
    "gb18030",
    "big5",
    "shift_jis",
    "euc_jp",
    "euc_kr",
]
_SAMPLE_BYTES = 1 << 16


def encoding_of(chunks: Iterable[bytes], name: str) -> str:
    """Tell the encoding of a text.

    Args:
        chunks: The file's bytes in order; read up to the first that is not plain ASCII.
        name: The file's name in errors.

    Returns:
        A name for `codecs.lookup`.

    Raises:
        DataError: If no encoding fits.
    """
    first = True
    for chunk in chunks:
        if first:
            for mark, encoding in _MARKS:
                if chunk.startswith(mark):
                    return encoding
            wide = _without_mark(chunk)
            if wide:
                return wide
            first = False
        if not chunk.isascii():
            return _of_sample(chunk, name)
    return "utf-8"


def _without_mark(chunk: bytes) -> str:
    """Tell UTF-16 without a mark: nearly every second byte is 0 (Latin) or 4 (Cyrillic)."""
    head = chunk[:4096]
    if len(head) < 4 or not (b"\0" in head or b"\4" in head):
        return ""
    high = frozenset((0, 4))
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_second = head[start::2]
        others = head[1 - start :: 2]
        if sum(byte in high for byte in every_second) >= 0.9 * len(every_second) and sum(
            byte in high for byte in others
        ) <= 0.1 * len(others):
            return encoding
    return ""


def _of_sample(chunk: bytes, name: str) -> str:
    if _is_mostly_utf8(chunk):
        return "utf-8"
    start = next(i for i, byte in enumerate(chunk) if byte > 127)
    sample = chunk[max(0, start - 1024) : start + _SAMPLE_BYTES]
    scores = {encoding: _russian_score(sample, encoding) for encoding in _CYRILLIC}
    best = max(scores, key=lambda encoding: scores[encoding])
    if scores[best] > 0.5:
        return best
    for encoding in _WITH_NUMBER_SIGN:
        if _has_only_number_signs(sample, encoding):
            return encoding
    if _is_binary(sample):
        raise DataError(
            f"{name}: this is no text",
            hint="export the data as JSONL, CSV or Parquet; a table of an office program as CSV",
        )
    # Imported late: the package is needed for the rare file that is not UTF-8.
    from charset_normalizer import from_bytes

    match = from_bytes(sample, cp_isolation=_OTHERS).best()
    if match is None:
        raise DataError(
            f"{name}: the text encoding cannot be told",
            hint='save the file as UTF-8, or name its encoding: data.encoding = "cp1251"',
        )
    return match.encoding


def _is_binary(sample: bytes) -> bool:
    """Texts have no control characters but spaces; in other files every eighth byte is one."""
    num_control = sum(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in sample)
    return num_control > 0.02 * len(sample)


def _is_mostly_utf8(chunk: bytes) -> bool:
    """Accept UTF-8 with a few broken bytes: those rows are rejected one by one."""
    text = chunk.decode("utf-8", "replace")
    num_broken = text.count("�")
    num_wide = sum(1 for character in text if ord(character) > 127) - num_broken
    # A cut at the end of the chunk breaks one character.
    return num_broken <= 1 + num_wide // 10 and num_wide >= num_broken


def _has_only_number_signs(sample: bytes, encoding: str) -> bool:
    """Tell an English table of a Russian office program: of wide characters it has № and quotes.

    Western tables have ¹ or ü there, which stand beside letters; № stands free or before a number.
    """
    text = f" {sample.decode(encoding, 'replace')} "
    wide = {character for character in text if ord(character) > 127}
    if _NUMBER_SIGN not in wide or wide - _PUNCTUATION:
        return False
    return all(
        not before.isalnum() and not after.isalpha()
        for before, sign, after in zip(text, text[1:], text[2:], strict=False)
        if sign == _NUMBER_SIGN
    )


def _russian_score(sample: bytes, encoding: str) -> float:
    """Share of non-ASCII characters that look like Russian prose, 0 to 1."""
    # Decoding byte by byte never fails on a cut: these encodings have one byte per character.
    text = sample.decode(encoding, "replace")
    wide = [character for character in text if ord(character) > 127]
    letters = [character for character in wide if character.lower() in _RUSSIAN]
    known = len(letters) + sum(character in _PUNCTUATION for character in wide)
    if len(letters) < 2 or known < 0.95 * len(wide):
        return 0.0
    # A wrong Cyrillic table swaps the case, and Western text has no runs of wide letters.
    in_run = sum(
        ord(a) > 127 and ord(b) > 127 and a.isalpha() and b.isalpha() for a, b in pairwise(text)
    )
    if in_run < 0.5 * len(letters):
        return 0.0
    frequent = sum(character.lower() in _FREQUENT for character in letters) / len(letters)
    lower = sum(character.islower() for character in letters) / len(letters)
    return frequent * (0.5 + 0.5 * lower)
