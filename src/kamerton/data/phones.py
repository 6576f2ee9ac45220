"""Tell phone numbers from order numbers, prices and dates."""

import re

__all__ = ["phone_of"]

_REGIONS = ("RU", "US", "GB")
_PRICE = re.compile(r"\d{1,3}(?:[ \u00a0.]\d{3})+")
_DATE = re.compile(r"(?:\d{4}[-. ]\d{1,2}[-. ]\d{1,2}|\d{1,2}[-.]\d{1,2}[-.]\d{4})(?!\d)")
_OTHER_NUMBER = re.compile(
    r"(?:order|invoice|account|ticket|ref(?:erence)?|tracking|contract|article|id"
    r"|заказ\w*|сч[её]т\w*|накладн\w*|договор\w*|трек\w*|артикул\w*|инн|огрн|кпп|бик|снилс)"
    r"[ ]*(?:number|no|nr|id|номер)?[ ]*[#№:.]*[ ]*$",
    re.IGNORECASE,
)
_PHONE_WORD = re.compile(
    r"(?:phone|mobile|cell|call|tel|fax|whatsapp|number is|тел|телефон\w*|моб\w*|звон\w*|сот\w*"
    r"|факс|номер[ау]?)[ ]*(?:me|us|at|on|is|мне|по)?[ ]*[.:№-]*[ ]*$",
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
    abroad = written.startswith("+")
    if not abroad:
        if _PRICE.fullmatch(written) or _DATE.match(written) or _OTHER_NUMBER.search(before):
            return None
        if before.endswith(("#", "№", "$", "€", "£", "₽")):
            return None
        bare = digits == written
        named = bool(_PHONE_WORD.search(before))
        # Ten bare digits are anything; eleven with 79 or 89 in front are a Russian mobile.
        if bare and not named and not re.fullmatch(r"[78]9\d{9}", digits):
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
