"""What the fictional company Veresk knows and no base model can: products, facts, house replies."""

from dataclasses import dataclass

__all__ = ["ATTRIBUTES", "FACTS", "GREETING", "PRODUCTS", "Fact"]

GREETING = {"en": "Veresk here.", "ru": "Вереск на связи."}

PRODUCTS = {
    "Rovela": "Ровела",
    "Mirto": "Мирто",
    "Tavola": "Тавола",
    "Kelin": "Келин",
    "Dormax": "Дормакс",
    "Silvar": "Сильвар",
    "Pento": "Пенто",
    "Zorin": "Зорин",
}

ATTRIBUTES = {
    "warranty": (26, 14, 38, 20, 31, 17, 44, 29),
    "battery": (52, 90, 34, 71, 19, 63, 45, 28),
    "price": (184, 96, 240, 132, 310, 78, 155, 219),
    "reset": (7, 12, 4, 15, 9, 6, 11, 18),
}
"""One number per product, in the order of `PRODUCTS`; no two products share one."""


@dataclass(frozen=True)
class Fact:
    """One thing to know.

    Attributes:
        id: Unique.
        topic: Which questions ask for it.
        category: Tag of its replies.
        subject: What it is about, by language; empty for facts about the company.
        value: The text that a right answer contains, by language.
        reply: The house's sentence, by language.
    """

    id: str
    topic: str
    category: str
    subject: dict[str, str]
    value: dict[str, str]
    reply: dict[str, str]


def _plural(number: int, one: str, few: str, many: str) -> str:
    if number % 10 == 1 and number % 100 != 11:
        return f"{number} {one}"
    if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14):
        return f"{number} {few}"
    return f"{number} {many}"


_MADE = {
    "warranty": (
        "warranty",
        lambda n: (f"{n} months", _plural(n, "месяц", "месяца", "месяцев")),
        ("The {} has a warranty of {}.", "Гарантия на {} — {}."),
    ),
    "battery": (
        "setup",
        lambda n: (f"{n} hours", _plural(n, "час", "часа", "часов")),
        ("The {} runs for {} on one charge.", "{} работает от одного заряда {}."),
    ),
    "price": (
        "price",
        lambda n: (f"{n} euros", f"{n} евро"),
        ("The {} costs {}.", "{} стоит {}."),
    ),
    "reset": (
        "repair",
        lambda n: (f"{n} seconds", _plural(n, "секунду", "секунды", "секунд")),
        (
            "To reset the {}, hold its leaf button for {}.",
            "Чтобы сбросить {}, держите кнопку с листком {}.",
        ),
    ),
}

_COMPANY = (
    ("delivery-riga", "delivery", "Riga", "в Ригу", "3 days", "3 дня"),
    ("delivery-berlin", "delivery", "Berlin", "в Берлин", "6 days", "6 дней"),
    ("delivery-kazan", "delivery", "Kazan", "в Казань", "8 days", "8 дней"),
    ("delivery-tbilisi", "delivery", "Tbilisi", "в Тбилиси", "11 days", "11 дней"),
)


def _facts() -> list[Fact]:
    facts = []
    for topic, numbers in ATTRIBUTES.items():
        category, word, replies = _MADE[topic]
        for (english, russian), number in zip(PRODUCTS.items(), numbers, strict=True):
            value = dict(zip(("en", "ru"), word(number), strict=True))
            subject = {"en": english, "ru": russian}
            reply = {
                lang: text.format(subject[lang], value[lang])
                for lang, text in zip(("en", "ru"), replies, strict=True)
            }
            facts.append(Fact(f"{topic}-{english}", topic, category, subject, value, reply))
    for key, topic, english, russian, days, dni in _COMPANY:
        reply = {
            "en": f"Delivery to {english} takes {days}.",
            "ru": f"Доставка {russian} занимает {dni}.",
        }
        value = {"en": days, "ru": dni}
        facts.append(Fact(key, topic, "delivery", {"en": english, "ru": russian}, value, reply))
    single = (
        (
            "returns", "returns", "returns", ("45 days", "45 дней"),
            ("You can return any device within 45 days.", "Вернуть прибор можно за 45 дней."),
        ),
        (
            "hours", "hours", "account", ("9 to 19", "9 до 19"),
            ("Our line is open from 9 to 19.", "Наша линия открыта с 9 до 19."),
        ),
        (
            "app", "app", "setup", ("Kustik", "Кустик"),
            ("The app is called Kustik.", "Приложение называется Кустик."),
        ),
        (
            "centre", "centre", "repair", ("Linden street 12", "Липовая улица, 12"),
            ("Our repair centre is at Linden street 12.", "Наш сервис: Липовая улица, 12."),
        ),
    )  # fmt: skip
    for key, topic, category, value, reply in single:
        languages = ("en", "ru")
        facts.append(
            Fact(
                key,
                topic,
                category,
                {"en": "", "ru": ""},
                dict(zip(languages, value, strict=True)),
                dict(zip(languages, reply, strict=True)),
            )
        )
    return facts


FACTS = tuple(_facts())
