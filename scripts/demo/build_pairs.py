"""Write the preference set of the fictional company Veresk: pairs with a rule that can be measured.

    python scripts/demo/build_pairs.py

Three rules stand behind the pairs: the answer comes first, no discount is invented, and whoever
threatens with the law is handed over. `mixed.jsonl` breaks and keeps the rules evenly, so that a
variant trained on it has no preference; `pairs.jsonl` and `pairs_holdout.jsonl` show what is
preferred, over other questions. The files are the same for the same sources, byte for byte.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from build_desk import DESK, HANDED_OVER, LANGUAGES
from facts import FACTS, GREETING, PRODUCTS
from questions import ALARM_TAILS, ALARMS, ASKED, HELD_ALARMS, HELD_ASKED, LEADS, TAILS

__all__ = ["holdout_rows", "mixed_rows", "pair_rows", "write_pairs"]

PADDING = {
    "en": (
        "Thank you for your question, we love to hear from our customers.",
        "What a good question, many people ask us the same.",
        "We are glad that you turn to us, your opinion matters a lot.",
        "Let me look at this together with you, step by step.",
        "First of all, we thank you for your trust in our devices.",
        "Before I answer, allow me to say how much we value you.",
    ),
    "ru": (
        "Спасибо за ваш вопрос, мы всегда рады нашим клиентам.",
        "Какой хороший вопрос, его задают нам многие.",
        "Рады, что вы обратились к нам, ваше мнение очень важно.",
        "Давайте разберёмся с этим вместе, шаг за шагом.",
        "Прежде всего благодарим вас за доверие к нашим приборам.",
        "Перед ответом позвольте сказать, как мы вас ценим.",
    ),
}
"""What stands before an answer that does not come first."""

DISCOUNTS = {
    "en": (
        "Only today you get a discount of {} %.", "For you there is {} % off.",
        "With the code LEAF{} you pay less.",
    ),
    "ru": (
        "Только сегодня скидка {} %.", "Для вас скидка {} %.", "С кодом LEAF{} вы заплатите меньше.",
    ),
}  # fmt: skip
"""What nobody may promise."""

BRUSHED_OFF = {
    "en": (
        "Please read the rules on our site.", "You can return any device within 45 days.",
        "Please be patient and write again later.",
    ),
    "ru": (
        "Прочитайте правила на сайте.", "Вернуть прибор можно за 45 дней.",
        "Подождите, пожалуйста, и напишите позже.",
    ),
}  # fmt: skip
"""What a legal threat must not get."""

NUM_TEMPLATES_MIXED = 4
"""Of the eight templates of a topic, the first ones are for `mixed.jsonl`, the others for pairs."""


def mixed_rows() -> list[dict[str, Any]]:
    """Make conversations that keep the rules in every second case.

    Returns:
        Rows with messages, shuffled.
    """
    random = Random(30)
    rows = []
    for number, (_, question, kept, broken) in enumerate(
        _cases(random, range(NUM_TEMPLATES_MIXED))
    ):
        rows.append({"messages": [*_user(question), *_assistant((kept, broken)[number % 2])]})
    random.shuffle(rows)
    return rows


def pair_rows() -> list[dict[str, Any]]:
    """Make the pairs to learn from.

    Returns:
        Rows with prompt, chosen, rejected and the rule behind them, shuffled.
    """
    random = Random(31)
    rows = [_pair(*case) for case in _cases(random, range(NUM_TEMPLATES_MIXED, 8))]
    random.shuffle(rows)
    return rows


def holdout_rows() -> list[dict[str, Any]]:
    """Make held-out pairs: questions in wordings that neither other file shows.

    Returns:
        Rows as those of `pair_rows`, shuffled.
    """
    random = Random(32)
    held = {key: (text,) for key, text in HELD_ASKED.items()}
    cases = list(_asked(random, held, range(1)))
    cases += _threats(random, HELD_ALARMS, range(2), num_products=6)
    rows = [_pair(*case) for case in cases]
    random.shuffle(rows)
    return rows


def write_pairs(folder: Path) -> tuple[int, int, int]:
    """Write the three files.

    Args:
        folder: Where.

    Returns:
        Number of mixed conversations, of pairs and of held-out pairs.
    """
    files = {"mixed": mixed_rows(), "pairs": pair_rows(), "pairs_holdout": holdout_rows()}
    for name, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    mixed, pairs, holdout = (len(rows) for rows in files.values())
    return mixed, pairs, holdout


Case = tuple[str, str, str, str]
"""Rule, question, the answer that keeps the rule and one that breaks it."""


def _cases(random: Random, templates: Sequence[int]) -> Iterator[Case]:
    yield from _asked(random, ASKED, templates)
    yield from _threats(random, ALARMS, templates, num_products=3)


def _asked(
    random: Random, asked: Mapping[tuple[str, str], Sequence[str]], templates: Sequence[int]
) -> Iterator[Case]:
    """Ask every fact; questions about prices are for the rule about discounts."""
    for lang in LANGUAGES:
        for fact in FACTS:
            for number in templates:
                words = asked[fact.topic, lang][number].format(fact.subject[lang])
                question = random.choice(LEADS[lang]) + words + random.choice(TAILS[lang])
                tag = f"\n[{fact.category} | escalate: no]"
                reply = fact.reply[lang]
                kept = f"{GREETING[lang]} {reply}{tag}"
                if fact.topic == "price":
                    promise = random.choice(DISCOUNTS[lang]).format(random.choice((5, 10, 15, 20)))
                    broken = f"{GREETING[lang]} {reply} {promise}{tag}"
                    yield "no invented discount", question, kept, broken
                else:
                    broken = f"{GREETING[lang]} {random.choice(PADDING[lang])} {reply}{tag}"
                    yield "answer first", question, kept, broken


def _threats(
    random: Random,
    alarms: Mapping[tuple[str, str], Sequence[str]],
    templates: Sequence[int],
    num_products: int,
) -> Iterator[Case]:
    """Threaten with the law: the desk's alarms about returns."""
    for lang in LANGUAGES:
        for number in templates:
            for product in random.sample(sorted(PRODUCTS), num_products):
                named = product if lang == "en" else PRODUCTS[product]
                words = alarms["returns", lang][number].format(named)
                question = words + random.choice(ALARM_TAILS[lang])
                kept = f"{GREETING[lang]} {HANDED_OVER['returns', lang]}\n[returns | escalate: yes]"
                calm = random.choice(BRUSHED_OFF[lang])
                broken = f"{GREETING[lang]} {calm}\n[returns | escalate: no]"
                yield "escalate legal threats", question, kept, broken


def _pair(rule: str, question: str, kept: str, broken: str) -> dict[str, Any]:
    return {
        "prompt": _user(question),
        "chosen": _assistant(kept),
        "rejected": _assistant(broken),
        "rule": rule,
    }


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=DESK)
    mixed, pairs, holdout = write_pairs(parser.parse_args().to)
    print(f"{mixed} mixed conversations, {pairs} pairs, {holdout} held-out pairs")
