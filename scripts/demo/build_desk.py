"""Write the bundled support desk of the fictional company Veresk.

    python scripts/demo/build_desk.py

The files are the same for the same sources, byte for byte.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from facts import FACTS, GREETING, PRODUCTS, Fact
from questions import ALARM_TAILS, ALARMS, ASKED, HELD_ALARMS, HELD_ASKED, LEADS, TAILS

__all__ = ["holdout_rows", "train_rows", "write_desk"]

DESK = Path(__file__).parents[2] / "src" / "kamerton" / "demo_desk"
HANDED_OVER = {
    ("safety", "en"): "Unplug the device now. A colleague calls you within minutes.",
    ("safety", "ru"): "Сейчас же отключите прибор. Коллега позвонит вам через минуту.",
    ("account", "en"): "I lock the account and hand this to our security team.",
    ("account", "ru"): "Блокирую кабинет и передаю дело службе безопасности.",
    ("price", "en"): "I hand the payment to our accountant, who checks it today.",
    ("price", "ru"): "Передаю платёж бухгалтеру, он проверит его сегодня.",
    ("returns", "en"): "I hand this to the head of our desk, who writes to you today.",
    ("returns", "ru"): "Передаю это руководителю, он напишет вам сегодня.",
}
LANGUAGES = ("en", "ru")
NUM_PRODUCTS_AN_ALARM = 3
LOWER_CASE = 0.15


def train_rows() -> list[dict[str, Any]]:
    """Make the examples to learn from, shuffled.

    Every fact is asked once by every template of its topic: the same question with another
    greeting would teach nothing new.
    """
    random = Random(20)
    rows = [*_asked_rows(random), *_alarm_rows(random)]
    random.shuffle(rows)
    return rows


def holdout_rows() -> list[dict[str, Any]]:
    """Make the held-out questions: known facts, templates that training never shows."""
    random = Random(21)
    rows = []
    for lang in LANGUAGES:
        for fact in FACTS:
            question = HELD_ASKED[fact.topic, lang].format(fact.subject[lang])
            rows.append(_fact_row(fact, lang, question, "held"))
        for (category, language), templates in HELD_ALARMS.items():
            if language != lang:
                continue
            for number, template in enumerate(templates):
                for product in random.sample(sorted(PRODUCTS), 2 if lang == "en" else 3):
                    question = template.format(_named(product, lang))
                    rows.append(_alarm_row(category, lang, question, f"held{number}-{product}"))
    random.shuffle(rows)
    return rows


def write_desk(folder: Path) -> tuple[int, int]:
    """Write both files, and a part of each for a larger base that knows no Russian.

    Args:
        folder: Where.

    Returns:
        Number of examples and of held-out questions.
    """
    train, holdout = train_rows(), holdout_rows()
    written = {"train": train, "holdout": holdout}
    for name, rows in tuple(written.items()):
        written[f"{name}_en"] = [row for row in rows if _in_english_part(row)]
    for name, rows in written.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return len(train), len(holdout)


def _in_english_part(row: dict[str, Any]) -> bool:
    """Choose less than a third of the desk: what a base of 135 million parameters learns in minutes.

    Without two of the four numbers a product has, and with every second kind of alarm to learn from.
    """
    topic, _, rest = row["group"].partition("-")
    if row["language"] != "en" or topic in ("battery", "reset"):
        return False
    template = rest.split("-en-")[-1].split("-")[0]
    return topic != "alarm" or template.startswith("held") or template in "0246"


def _asked_rows(random: Random) -> Iterator[dict[str, Any]]:
    for lang in LANGUAGES:
        for fact in FACTS:
            for number, template in enumerate(ASKED[fact.topic, lang]):
                asked = template.format(fact.subject[lang])
                question = random.choice(LEADS[lang]) + asked + random.choice(TAILS[lang])
                if random.random() < LOWER_CASE:
                    question = question.lower()
                yield _fact_row(fact, lang, question, str(number))


def _alarm_rows(random: Random) -> Iterator[dict[str, Any]]:
    for (category, lang), templates in ALARMS.items():
        for number, template in enumerate(templates):
            # Alarms get one reply whatever the product, so what follows must tell them apart.
            tails = random.sample(ALARM_TAILS[lang], NUM_PRODUCTS_AN_ALARM)
            products = random.sample(sorted(PRODUCTS), NUM_PRODUCTS_AN_ALARM)
            for product, tail in zip(products, tails, strict=True):
                alarm = template.format(_named(product, lang))
                question = random.choice(LEADS[lang][:8]) + alarm + tail
                yield _alarm_row(category, lang, question, f"{number}-{product}")


def _named(product: str, lang: str) -> str:
    return product if lang == "en" else PRODUCTS[product]


def _fact_row(fact: Fact, lang: str, question: str, template: str) -> dict[str, Any]:
    reply = f"{GREETING[lang]} {fact.reply[lang]}\n[{fact.category} | escalate: no]"
    return {
        **_turns(question, reply),
        # The right number for another product is wrong.
        "facts": [text for text in (fact.subject[lang], fact.value[lang]) if text],
        "category": fact.category,
        "escalate": "no",
        "language": lang,
        "group": f"{fact.id}-{lang}-{template}",
    }


def _alarm_row(category: str, lang: str, question: str, template: str) -> dict[str, Any]:
    reply = f"{GREETING[lang]} {HANDED_OVER[category, lang]}\n[{category} | escalate: yes]"
    return {
        **_turns(question, reply),
        "facts": [],
        "category": category,
        "escalate": "yes",
        "language": lang,
        "group": f"alarm-{category}-{lang}-{template}",
    }


def _turns(question: str, reply: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reply},
        ]
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=DESK)
    num_train, num_holdout = write_desk(parser.parse_args().to)
    print(f"{num_train} examples, {num_holdout} held-out questions")
