"""Random names, numbers and goods: the slots that fill the templates."""

from __future__ import annotations

import random

from texts import words

Slots = dict[str, str]


def plural(number: int, one: str, few: str, many: str) -> str:
    """Return the number with the Russian noun form that agrees with it."""
    if 11 <= number % 100 <= 14 or number % 10 == 0 or number % 10 > 4:
        return f"{number} {many}"
    return f"{number} {one if number % 10 == 1 else few}"


def genitive(number: int, one: str, many: str) -> str:
    """Return the number with a Russian noun in the genitive ("21 дня", "5 дней")."""
    ends_in_one = number % 10 == 1 and number % 100 != 11
    return f"{number} {one if ends_in_one else many}"


def invented_name(rng: random.Random, russian: bool = False) -> str:
    """Return a made-up word of two or three syllables with a capital letter."""
    language = "ru" if russian else "en"
    onsets, vowels, codas = (words(language, kind) for kind in ("onsets", "vowels", "codas"))
    count = rng.choice((2, 2, 3))
    syllables: list[str] = [rng.choice(onsets) + rng.choice(vowels) for _ in range(count)]
    coda: str = rng.choice(codas)
    return ("".join(syllables) + coda).capitalize()


def order_number(rng: random.Random) -> str:
    """Return an order number in one of several shapes."""
    letters = "ABCDEFGHKLMNPRSTVXZ"
    shape = rng.randrange(6)
    if shape == 0:
        return str(rng.randrange(1000, 9999))
    if shape == 1:
        return str(rng.randrange(10000, 999999))
    if shape == 2:
        return f"{rng.choice(letters)}{rng.randrange(100, 99999)}"
    if shape == 3:
        return f"{rng.choice(letters)}{rng.choice(letters)}-{rng.randrange(100, 9999)}"
    if shape == 4:
        return f"{rng.randrange(10, 99)}-{rng.randrange(100, 999)}"
    return f"{rng.choice(letters)}{rng.randrange(1, 9)}{rng.choice(letters)}{rng.randrange(10, 99)}"


def _voucher(rng: random.Random, length: int) -> str:
    return f"{invented_name(rng).upper()[:length]}{rng.randrange(5, 60)}"


def _email(rng: random.Random) -> str:
    first = rng.choice(words("en", "first"))
    return f"{first}.{invented_name(rng)}@{invented_name(rng)}.example".lower()


def _city(rng: random.Random, language: str) -> str:
    known: str = rng.choice(words(language, "cities")) if rng.random() < 0.6 else ""
    return known or invented_name(rng, russian=language == "ru")


def _shared(rng: random.Random) -> Slots:
    first, second = rng.sample(range(100, 1000), 2)
    open_hour = rng.randrange(7, 12)
    close_hour = rng.randrange(16, 23)
    return {
        "order": order_number(rng),
        "code": rng.choice(
            (f"E{rng.randrange(10, 99)}", str(first), _voucher(rng, 5)),
        ),
        "code2": _voucher(rng, 6),
        "phone": f"{rng.randrange(100, 999)}-{rng.randrange(10, 99)}-{rng.randrange(10, 99)}",
        "email": _email(rng),
        "model": f"{invented_name(rng)} {rng.choice((first, rng.randrange(1, 30)))}",
        "model2": f"{invented_name(rng)} {rng.choice((second, rng.randrange(1, 30)))}",
        "time": f"{rng.randrange(8, 21)}:{rng.choice(('00', '15', '30', '45'))}",
        "open": f"{open_hour}:00",
        "close": f"{close_hour}:{rng.choice(('00', '30'))}",
        "percent": f"{rng.choice((5, 7, 10, 12, 15, 20, 25, 30, 35, 40, 50))}%",
    }


def english_scene(rng: random.Random) -> Slots:
    """Return the slots of one English conversation."""
    slots = _shared(rng)
    item, items = rng.choice(words("en", "goods"))
    first = rng.choice(words("en", "first"))
    colour, colour2 = rng.sample(words("en", "colours"), 2)
    days, hours, months = rng.randrange(2, 31), rng.randrange(2, 73), rng.randrange(2, 37)
    amount = rng.choice((rng.randrange(2, 100), rng.randrange(100, 2000)))
    unit = rng.choice(("{} euros", "{} dollars", "${}", "€{}", "£{}"))
    slots |= {
        "company": invented_name(rng),
        "item": item,
        "items": items,
        "first": first,
        "name": f"{first} {invented_name(rng)}",
        "city": _city(rng, "en"),
        "colour": colour,
        "colour2": colour2,
        "weekday": rng.choice(words("en", "days")),
        "month": rng.choice(words("en", "months")),
        "date": f"{rng.choice(words('en', 'months'))} {rng.randrange(1, 29)}",
        "plan": rng.choice(words("en", "plans")),
        "address": " ".join(
            (str(rng.randrange(1, 150)), invented_name(rng), rng.choice(words("en", "streets")))
        ),
        "days": f"{days} {rng.choice(('days', 'days', 'working days'))}",
        "hours": f"{hours} hours",
        "months": f"{months} months",
        "count": str(rng.randrange(2, 61)),
        "amount": unit.format(amount),
    }
    return slots


def russian_scene(rng: random.Random) -> Slots:
    """Return the slots of one Russian conversation, every form already declined."""
    slots = _shared(rng)
    item, item_acc, item_gen = rng.choice(words("ru", "goods"))
    woman = rng.random() < 0.5
    first = rng.choice(words("ru", "women" if woman else "men"))
    surname = invented_name(rng, russian=True).rstrip("аеиоу") + ("ова" if woman else "ов")
    colour, colour2 = rng.sample(words("ru", "colours"), 2)
    days, hours, months = rng.randrange(2, 31), rng.randrange(2, 73), rng.randrange(2, 37)
    amount = rng.choice((rng.randrange(2, 100) * 10, rng.randrange(100, 9999)))
    minutes, people = rng.randrange(5, 60), rng.randrange(2, 9)
    day = rng.randrange(7)
    date = f"{rng.randrange(1, 29)} {rng.choice(words('ru', 'months'))}"
    roubles = plural(amount, "рубль", "рубля", "рублей")
    slots |= {
        "company": invented_name(rng, russian=True),
        "item": item,
        "Item": item.capitalize(),
        "item_acc": item_acc,
        "item_gen": item_gen,
        "first": first,
        "name": f"{first} {surname}",
        "a": "а" if woman else "",
        "en": "ьна" if woman else "ен",
        "city": _city(rng, "ru"),
        "colour": colour,
        "colour2": colour2,
        "weekday": words("ru", "days")[day],
        "weekday_on": words("ru", "on_days")[day],
        "Weekday_on": words("ru", "on_days")[day].capitalize(),
        "date": date,
        "date_gen": date,
        "plan": rng.choice(words("ru", "plans")),
        "address": f"улица {rng.choice(words('ru', 'streets'))}, дом {rng.randrange(1, 150)}",
        "days_acc": plural(days, "день", "дня", "дней"),
        "days_gen": genitive(days, "дня", "дней"),
        "hours_acc": plural(hours, "час", "часа", "часов"),
        "hours_gen": genitive(hours, "часа", "часов"),
        "months_acc": plural(months, "месяц", "месяца", "месяцев"),
        "months_nom": plural(months, "месяц", "месяца", "месяцев"),
        "minutes_acc": plural(minutes, "минуту", "минуты", "минут"),
        "seconds_acc": plural(minutes, "секунду", "секунды", "секунд"),
        "people_acc": plural(people, "человека", "человека", "человек"),
        "gigabytes": plural(rng.randrange(2, 90), "гигабайт", "гигабайта", "гигабайт"),
        "count": str(rng.randrange(2, 61)),
        "count_gen": str(rng.choice((6, 7, 8, 9, 10, 12, 14, 16))),
        "amount": roubles,
        "amount_acc": roubles,
        "Amount": roubles,
        "amount_gen": genitive(amount, "рубля", "рублей"),
        "num": rng.choice(("", "", " " + slots["order"])),
    }
    return slots
