"""Tell phone numbers from order numbers, prices and dates."""

import re

__all__ = ["phone_of"]

_REGIONS = ("RU", "US", "GB", "CA", "KZ", "DE")
_PRICE = re.compile(r"\d{1,3}(?:[ \u00a0.]\d{3})+")
_DATE = re.compile(r"(?:\d{4}[-. ]\d{1,2}[-. ]\d{1,2}|\d{1,2}[-.]\d{1,2}[-.]\d{4})(?!\d)")
# How numbers are written without the country's code, spaces and hyphens aside: Russian ones of
# eleven digits or with the town in brackets, American ones of 3, 3 and 4, British and German ones
# from 0.
_NATIONAL = re.compile(
    r"[78][ \u00a0.\u2011-]{0,3}\(?\d[\d ().\u00a0\u2011-]*|\(\d{3,5}\)[\d .\u00a0\u2011-]*"
    r"|(?:1[ .-])?\(?[2-9]\d\d(?:\) ?|[ .-])\d{3}[ .-]\d{4}|\(?0[1-9][\d ()/-]*"
)
_OTHER_NUMBER = re.compile(
    r"(?:(?:bestell|kunden|auftrags|rechnungs|konto)nummer|order|invoice|account|ticket|ref(?:erence)?|tracking|contract|article|id"
    r"|заказ\w*|сч[её]т\w*|накладн\w*|договор\w*|трек\w*|артикул\w*|инн|огрн|кпп|бик|снилс)"
    r"[ ]*(?:number|no|nr|id|номер)?[ ]*[#№:.]*[ ]*$",
    re.IGNORECASE,
)
_PHONE_WORD = re.compile(
    r"(?:phone|mobile|cell|call|tel|fax|whatsapp|number is|\b(?:telefon|handy|ruf)?nummer"
    r"|тел|телефон\w*|моб\w*|звон\w*|сот\w*"
    r"|факс|номер[ау]?)[ ]*(?:me|us|at|on|is|ist|мне|по)?[ ]*[.:№-]*[ ]*$",
    re.IGNORECASE,
)


def phone_of(written: str, before: str) -> str | None:
    """Read a run of digits as a phone number.

    Args:
        written: The run, with the spaces, hyphens, dots and brackets inside it.
        before: The text right before it.

    Returns:
        The number as +7916..., or None when it is something else.
    """
    digits = re.sub(r"\D", "", written)
    if written.startswith("00") and digits != written:
        # The other way to dial abroad, told from a number with leading zeros by its spaces.
        written = f"+{written[2:].lstrip()}"
    abroad = written.startswith("+")
    if not abroad:
        if _PRICE.fullmatch(written) or _DATE.match(written) or _OTHER_NUMBER.search(before):
            return None
        if before.endswith(("#", "№", "$", "€", "£", "₽")):
            return None
        if not _PHONE_WORD.search(before) and not _looks_national(written, digits):
            return None
    # Imported late: its tables take a tenth of a second.
    from phonenumbers import (
        NumberParseException,
        PhoneNumberFormat,
        format_number,
        is_valid_number,
        parse,
    )

    for region in (None,) if abroad else _REGIONS:
        try:
            number = parse(written, region)
        except NumberParseException:
            continue
        if is_valid_number(number):
            return str(format_number(number, PhoneNumberFormat.E164))
    return None


def _looks_national(written: str, digits: str) -> bool:
    if digits == written:
        # Ten bare digits are anything; eleven with 79 or 89 in front are a Russian mobile.
        return re.fullmatch(r"[78]9\d{9}", digits) is not None
    if written[0] in "78" and len(digits) != 11:
        return re.fullmatch(r"[78]\d\d[ .-]\d{3}[ .-]\d{4}", written) is not None
    return _NATIONAL.fullmatch(written) is not None
