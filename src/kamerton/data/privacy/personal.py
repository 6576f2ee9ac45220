"""Personal data in texts: e-mail addresses, phone, card, account and passport numbers.

Each kind has a check beyond its shape: Luhn's sum for cards, the checksum modulo 97 for accounts
(ISO 13616), numbering plans for phones, check digits for Russian insurance (SNILS) and tax (INN)
numbers, a word nearby for passports and tax numbers. Order numbers, prices, dates and the tax
numbers of companies are not reported.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from kamerton.data.privacy.phones import phone_of

__all__ = ["KINDS", "Finding", "Kind", "find_personal"]

Kind = Literal["email", "iban", "card", "passport", "snils", "inn", "phone"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of personal data.

    Attributes:
        kind: Its kind.
        start: Index of its first character.
        stop: Index after its last.
        value: The value in one form, so that two spellings of one number are equal.
    """

    kind: Kind
    start: int
    stop: int
    value: str


# The look-behind lets a match begin only where a word does: without it a long run of letters
# would cost quadratic time.
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ ]?[A-Za-z0-9])")
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "FO", "GL", "NL", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "XK", "MN"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "OM", "SO", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("LY", "PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("BI", "DJ", "FR", "GR", "IT", "MC", "MR", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HN", "HU", "LB", "NI", "PL", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU", "YE"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    **dict.fromkeys(("LC",), 32),
    **dict.fromkeys(("RU",), 33),
}
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-])")
_CARD_SHAPE = re.compile(
    # Visa; Mastercard; American Express; Mir; UnionPay; Discover; JCB; Diners; Maestro.
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}"
    r"|3[47]\d{13}|220[0-4]\d{12,15}|62\d{14,17}|6(?:011|4[4-9]\d|5\d\d)\d{12}|35\d{14}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|(?:50|5[6-8]|6[0379])\d{10,17}"
)
_PASSPORT_WORD = re.compile(r"паспорт|серия|серии|passport", re.IGNORECASE)
_PASSPORT = re.compile(
    r"(?<![\w.+-])(?P<series>\d{2}[ ]?\d{2})[ ,]{0,2}(?:№|номер|N|No\.?)?[ ]{0,2}(?P<number>\d{6})"
    r"(?![\w-]|[.,]\d)"
)
_PASSPORT_ABROAD = re.compile(r"(?<![\w.+-])\d{2}[ ]?(?:№[ ]?)?\d{7}(?![\w-]|[.,]\d)")
_SNILS = re.compile(r"(?<![\w.+-])\d{3}-\d{3}-\d{3}[ -]\d\d(?![\w-])|(?<![\w.+-])\d{11}(?![\w-])")
_SNILS_WORD = re.compile(r"снилс|snils", re.IGNORECASE)
_INN = re.compile(r"(?<![\w.+-])\d{12}(?![\w-])")
_INN_WORD = re.compile(r"\b(?:инн|inn)\b", re.IGNORECASE)
_WORD_DISTANCE = 40
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:0\d{2,4}/ ?\d(?:[ -]?\d){4,9}|\+?\(?\d(?:[ ().\u00a0\u2011-]{0,3}\d){6,14})"
    r"(?![\w-]|[.,/]\d)"
)


def find_personal(text: str) -> list[Finding]:
    """Find personal data.

    Args:
        text: Any.

    Returns:
        Findings from left to right; they do not overlap.
    """
    findings: list[Finding] = []
    has_digits = any(character.isdecimal() for character in text)
    if "@" in text:
        findings += _emails(text)
    if has_digits:
        # The surest kinds come first; a later one never takes what an earlier one has.
        for search in (_ibans, _cards, _passports, _snils, _inns, _phones):
            for found in search(text):
                if all(found.stop <= f.start or f.stop <= found.start for f in findings):
                    findings.append(found)
    return sorted(findings, key=lambda found: found.start)


def _emails(text: str) -> Iterator[Finding]:
    for match in _EMAIL.finditer(text):
        start = match.start() + len(match[0]) - len(match[0].lstrip(".-"))
        yield Finding("email", start, match.end(), text[start : match.end()].casefold())


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper())
        if length is None:
            continue
        value, at = "", match.start()
        while at < len(text) and len(value) < length:
            character = text[at]
            if character.isascii() and character.isalnum():
                value += character.upper()
            elif character != " ":
                break
            at += 1
        ends = at == len(text) or not text[at].isalnum()
        if len(value) == length and ends and _iban_checks(value):
            yield Finding("iban", match.start(), at, value)


def _iban_checks(value: str) -> bool:
    moved = value[4:] + value[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _cards(text: str) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _CARD_SHAPE.fullmatch(digits) and _luhn_checks(digits):
            yield Finding("card", match.start(), match.end(), digits)


def _luhn_checks(digits: str) -> bool:
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _passports(text: str) -> Iterator[Finding]:
    for pattern in (_PASSPORT, _PASSPORT_ABROAD):
        for match in pattern.finditer(text):
            # Without such a word only the spacing of the inner passport, "45 08 123456", counts.
            spaced = re.fullmatch(r"\d\d \d\d (№ ?)?\d{6}", match[0])
            if spaced or _stands_before(_PASSPORT_WORD, text, match.start()):
                yield Finding("passport", match.start(), match.end(), re.sub(r"\D", "", match[0]))


def _snils(text: str) -> Iterator[Finding]:
    for match in _SNILS.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        total = sum(int(digit) * (9 - i) for i, digit in enumerate(digits[:9]))
        checks = total % 101 % 100 == int(digits[9:])
        if checks and (digits != match[0] or _stands_before(_SNILS_WORD, text, match.start())):
            yield Finding("snils", match.start(), match.end(), digits)


def _inns(text: str) -> Iterator[Finding]:
    for match in _INN.finditer(text):
        if _inn_checks(match[0]) and _stands_before(_INN_WORD, text, match.start()):
            yield Finding("inn", match.start(), match.end(), match[0])


def _inn_checks(digits: str) -> bool:
    """Check the two last digits of a person's tax number; companies' have ten digits."""
    weights = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)
    sums = [
        sum(w * int(d) for w, d in zip(weights[start:], digits, strict=False)) for start in (1, 0)
    ]
    return [total % 11 % 10 for total in sums] == [int(digit) for digit in digits[10:]]


def _stands_before(word: re.Pattern[str], text: str, at: int) -> bool:
    return word.search(text, max(0, at - _WORD_DISTANCE), at) is not None


def _phones(text: str) -> Iterator[Finding]:
    for match in _PHONE.finditer(text):
        number = phone_of(match[0], text[max(0, match.start() - 24) : match.start()])
        if number:
            yield Finding("phone", match.start(), match.end(), number)
