"""Made-up files of a shop, as somebody exports them: the same ones each time."""

import csv
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["FILES"]

NUM_ROWS = 150

TOPICS: Mapping[str, Sequence[str]] = {
    "доставка": (
        "Где мой заказ № {n}? Обещали привезти {day}",
        "Курьер не приехал {day}, когда ждать {thing}",
        "По трек-номеру {n} посылка стоит на месте с {since}",
        "Можно привезти {thing} {day} после шести вечера",
        "{thing} до сих пор в пути, заказ {n}",
    ),
    "возврат": (
        "Хочу вернуть {thing}, не подошёл размер",
        "Как оформить возврат по заказу {n}, деньги обратно на карту",
        "Отправил {thing} назад в {since}, когда вернёте деньги",
        "{thing} не понравился, примете обратно без чека",
        "Верните деньги за {thing}, заказ № {n}",
    ),
    "брак": (
        "{thing} пришёл с трещиной на корпусе",
        "Через {weeks} сломалась кнопка, {thing} не включается",
        "В коробке {thing} без провода и с царапинами",
        "{thing} мигает и гудит с первого дня",
        "Новый {thing} нагревается и пахнет гарью, заказ {n}",
    ),
    "оплата": (
        "С карты списали дважды за заказ {n}",
        "Оплата не проходит, сайт пишет ошибку {n}",
        "Нужен счёт на фирму за {thing}",
        "Можно оплатить {thing} частями",
        "Не пришёл чек об оплате {thing} от {since}",
    ),
}
SLOTS: Mapping[str, Sequence[str]] = {
    "thing": ("торшер", "светильник", "ночник", "чайник", "обогреватель", "вентилятор"),
    "day": ("в среду", "завтра", "сегодня", "в субботу", "к пятнице"),
    "since": ("понедельник", "вторник", "четверг", "прошлую пятницу"),
    "weeks": ("две недели", "неделю", "месяц"),
}
HARSH: Sequence[tuple[str, str]] = (
    ("Sorry, we can not ship the {thing} {day}!!!", "We ship the {thing} {later}."),
    ("You must send us the receipt for the {thing} first!", "Please send us the receipt for the "
     "{thing}, and we check it {day}."),
    ("Your {thing} is broken because you dropped it!", "The {thing} has a crack. We can mend it "
     "{later}."),
    ("Unfortunately the {thing} is sold out!!", "The {thing} is back in stock {later}."),
    ("We told you already that the {thing} comes {later}!", "The {thing} comes {later}."),
    ("Do not call us again about the {thing}!", "We write to you about the {thing} {day}."),
)  # fmt: skip
ENGLISH: Mapping[str, Sequence[str]] = {
    "thing": ("desk lamp", "kettle", "heater", "fan", "toaster", "night light", "wall lamp"),
    "day": ("today", "this week", "on Monday", "on Friday"),
    "later": ("tomorrow", "next week", "on Tuesday", "in three days", "in May"),
    "name": ("Anna", "Boris", "Clara", "David", "Emma", "Felix"),
    "town": ("Kazan", "Tver", "Omsk", "Perm", "Tula"),
}
TALKS: Sequence[tuple[str, str, str, str]] = (
    ("My {thing} does not switch on.", "Is the plug warm?", "No, it is cold.",
     "Then the fuse is gone: we send one {later}."),
    ("Where is my {thing}?", "Which order number?", "Number {n}.", "Order {n} comes {later}."),
    ("Can I return the {thing}?", "Is the box open?", "Yes, it is open.",
     "That is no problem: the label comes by mail {day}."),
)  # fmt: skip
CURT = ("No idea.", "Look it up on the site.", "Call us.", "That is not our fault.")
MENTIONS: Mapping[str, Sequence[str]] = {
    "price": ("The {thing} costs too much", "For such a price the {thing} is a joke"),
    "delivery": ("the courier came {later}", "it took until {day} to arrive"),
    "quality": ("the {thing} broke after {n} days", "the switch of the {thing} is loose"),
    "service": ("nobody answered the phone {day}", "support was rude {day}"),
}
NEWS: Sequence[str] = (
    "Магазин открыт {day} с десяти до восьми. Продавец покажет, как работает {thing}.",
    "Новый {thing} уже на складе. Привезём его {day}, заказ принимаем по телефону и на сайте.",
    "Если {thing} не включается, проверьте вилку и предохранитель. Не помогло: напишите нам {day}.",
    "Мы чиним {thing} бесплатно в течение года. После этого ремонт стоит {n} рублей.",
    "Скидка на {thing} действует до конца недели. Цена {n} рублей, доставка по городу бесплатно.",
)


def filled(draw: random.Random, text: str, slots: Mapping[str, Sequence[str]]) -> str:
    chosen = {name: draw.choice(values) for name, values in slots.items()}
    said = text.format(n=draw.randint(100, 99_999), **chosen)
    return said[:1].upper() + said[1:]


def tickets(path: Path, draw: random.Random) -> None:
    """A Russian office program's table: semicolons, cp1251, columns besides."""
    out = io.StringIO()
    table = csv.writer(out, delimiter=";")
    table.writerow(["Номер", "Дата", "Канал", "Обращение", "Тема"])
    for number in range(NUM_ROWS):
        topic = draw.choices(list(TOPICS), weights=(4, 3, 2, 2))[0]
        text = filled(draw, draw.choice(TOPICS[topic]), SLOTS)
        if draw.random() < 0.05:
            # People make mistakes.
            topic = draw.choice(list(TOPICS))
        date = f"{1 + number % 28:02d}.03.2025"
        table.writerow([4_000 + number, date, draw.choice(("сайт", "почта", "чат")), text, topic])
    path.write_bytes(out.getvalue().encode("cp1251"))


def more_tickets(path: Path, draw: random.Random) -> None:
    """The same table of another month, without topics."""
    tickets(path, draw)
    lines = path.read_bytes().split(b"\r\n")
    path.write_bytes(b"\r\n".join(line.rpartition(b";")[0] for line in lines[:21]) + b"\r\n")


def rewritings(path: Path, draw: random.Random) -> None:
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["before", "after"])
    for _ in range(NUM_ROWS):
        both = " | ".join(draw.choice(HARSH))
        table.writerow(filled(draw, both, ENGLISH).split(" | "))
    path.write_text(out.getvalue(), encoding="utf-8")


def drafts(path: Path, draw: random.Random) -> None:
    """Sentences that nobody has rewritten yet."""
    lines = [filled(draw, draw.choice(HARSH)[0], ENGLISH) for _ in range(10)]
    path.write_text("\n".join(["before", *(f'"{line}"' for line in lines)]), encoding="utf-8")


def talks(path: Path, draw: random.Random) -> None:
    rows = []
    for _ in range(NUM_ROWS):
        turns = filled(draw, " | ".join(draw.choice(TALKS)), ENGLISH).split(" | ")
        is_liked = draw.random() < 0.6
        if not is_liked:
            turns[-1] = draw.choice(CURT)
        roles = ("user", "assistant") * 2
        messages = [
            {"role": role, "content": text} for role, text in zip(roles, turns, strict=True)
        ]
        rows.append({"messages": messages, "thumbs": "up" if is_liked else "down"})
    write_lines(path, rows)


def reviews(path: Path, draw: random.Random) -> None:
    rows = []
    for _ in range(NUM_ROWS):
        topics = draw.sample(list(MENTIONS), k=draw.choice((1, 1, 2)))
        said = ", and ".join(draw.choice(MENTIONS[topic]) for topic in topics)
        rows.append({"review": filled(draw, said, ENGLISH) + ".", "topics": topics})
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def letters(path: Path, draw: random.Random) -> None:
    """Letters that nobody has read yet."""
    orders(path, draw)
    rows = [json.loads(line)["letter"] for line in path.read_text("utf-8").splitlines()[:10]]
    path.write_text("\n".join(["letter", *(f'"{row}"' for row in rows)]), encoding="utf-8")


def orders(path: Path, draw: random.Random) -> None:
    rows = []
    for _ in range(NUM_ROWS):
        name, town, thing = (draw.choice(ENGLISH[slot]) for slot in ("name", "town", "thing"))
        number = draw.randint(1, 9)
        asked = draw.choice((
            f"{name} from {town} here, please send me {number} of the {thing}",
            f"I order {number} pieces: {thing}. Send them to {town}, my name is {name}",
            f"Hello, this is {name}. {thing.capitalize()}, {number} pieces, to {town}",
        ))  # fmt: skip
        rows.append({
            "letter": asked,
            "fields": {"name": name, "town": town, "product": thing, "pieces": number},
        })  # fmt: skip
    write_lines(path, rows)


def news(path: Path, draw: random.Random) -> None:
    texts = [filled(draw, draw.choice(NEWS), SLOTS) for _ in range(NUM_ROWS)]
    path.write_bytes("\n\n".join(texts).encode("cp1251"))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


FILES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "tickets.csv": tickets,
    "april.csv": more_tickets,
    "rewritings.csv": rewritings,
    "drafts.csv": drafts,
    "talks.jsonl": talks,
    "reviews.json": reviews,
    "orders.jsonl": orders,
    "letters.csv": letters,
    "news.txt": news,
}
"""The files of docs/first-hour.md, each with what writes it."""
