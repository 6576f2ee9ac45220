"""Patterns to be followed from the context: label lines, JSON, decisions and extraction."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from grammar import chat, expand
from service import lines_of, scene
from texts import phrases, topics, words
from words import invented_name, order_number

Shape = Callable[[str, bool, str], str]


def _json(fields: dict[str, str]) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _topic_names(language: str) -> list[str]:
    return [topic.name for topic in topics(language)]


def message(rng: random.Random, language: str) -> tuple[str, str, bool]:
    """Return a customer message, its topic and whether it is angry."""
    text, _, topic = lines_of(rng, language)
    angry = rng.random() < 0.35
    if angry:
        line = rng.choice(phrases(language, "angry"))
        text = rng.choice((f"{line} {text}", f"{text} {line}"))
    return text, topic.name, angry


def _shape(rng: random.Random, language: str) -> Shape:
    """Draw one made-up output format; it gets the topic, the urgency and a short copy."""
    key, urgent = rng.choice(phrases(language, "keys")), rng.choice(phrases(language, "urgent"))
    answers: list[str] = rng.choice(phrases(language, "yes_no"))
    yes, no = answers
    prefix = invented_name(rng, language == "ru").upper()[:4]
    upper = rng.random() < 0.15

    def name(topic: str) -> str:
        return topic.upper() if upper else topic

    def flag(angry: bool) -> str:
        return yes if angry else no

    shapes: tuple[Shape, ...] = (
        lambda topic, angry, text: f"{key}: {name(topic)}",
        lambda topic, angry, text: f"{key}: {name(topic)}",
        lambda topic, angry, text: f"[{key}: {name(topic)} | {urgent}: {flag(angry)}]",
        lambda topic, angry, text: f"{key}: {name(topic)}\n{urgent}: {flag(angry)}",
        lambda topic, angry, text: _json({key: name(topic), urgent: flag(angry)}),
        lambda topic, angry, text: _json({key: name(topic)}),
        lambda topic, angry, text: f"<{name(topic)}>",
        lambda topic, angry, text: f"{prefix}-{name(topic)}",
        lambda topic, angry, text: f"{name(topic)}",
        lambda topic, angry, text: f"{name(topic)}; {flag(angry)}",
        lambda topic, angry, text: f"{urgent}: {flag(angry)}",
        lambda topic, angry, text: flag(angry),
        lambda topic, angry, text: f"{prefix} {name(topic)} {prefix}",
        lambda topic, angry, text: f"# {name(topic)}\n{text}",
        lambda topic, angry, text: f"{name(topic)} -> {flag(angry)}",
        lambda topic, angry, text: f"* {key} = {name(topic)}",
    )
    return rng.choice(shapes)


def few_shot(rng: random.Random, language: str) -> dict[str, object]:
    """Return two to six exchanges that all follow one made-up format."""
    shape = _shape(rng, language)
    turns: list[str] = []
    for _ in range(rng.randrange(2, 7)):
        text, topic, angry = message(rng, language)
        turns += [text, shape(topic, angry, text)]
    system = phrases(language, "same_way")[0] if rng.random() < 0.4 else ""
    return chat(*turns, system=system)


def invented_labels(rng: random.Random, language: str) -> dict[str, object]:
    """Return few-shot exchanges where topics have invented codes: only the context tells them."""
    names = rng.sample(_topic_names(language), 3)
    codes = {name: invented_name(rng).upper() + str(rng.randrange(10)) for name in names}
    turns: list[str] = []
    while len(turns) < 2 * rng.randrange(4, 8):
        text, topic, _ = message(rng, language)
        if topic in codes:
            turns += [text, codes[topic]]
        if rng.random() < 0.01:
            break
    listed = "; ".join(f"{name} = {code}" for name, code in codes.items())
    head = "Codes" if language == "en" else "Коды"
    system = f"{head}: {listed}." if rng.random() < 0.6 else ""
    return chat(*turns, system=system) if turns else few_shot(rng, language)


def classification(rng: random.Random, language: str) -> dict[str, object]:
    """Return messages labelled from a list in the system text."""
    text, topic, _ = message(rng, language)
    labels = list({topic, *rng.sample(_topic_names(language), rng.randrange(2, 7))})
    labels.sort()
    rng.shuffle(labels)
    system = rng.choice(phrases(language, "classify")).replace("{labels}", ", ".join(labels))
    turns = [text, topic]
    for _ in range(rng.choice((0, 0, 1, 2)) * 6):
        text, topic, _ = message(rng, language)
        if topic in labels:
            turns += [text, topic]
    if rng.random() < 0.3:
        turns[0] = system + "\n\n" + turns[0]
        return chat(*turns[:2])
    return chat(*turns, system=system)


def escalation(rng: random.Random, language: str) -> dict[str, object]:
    """Return yes/no decisions on whether a person must take over."""
    yes, no = ("yes", "no") if language == "en" else ("да", "нет")
    system = rng.choice(phrases(language, "escalate"))
    turns: list[str] = []
    for _ in range(rng.randrange(1, 4)):
        text, _, angry = message(rng, language)
        turns += [text, yes if angry else no]
    return chat(*turns, system=system)


def extraction(rng: random.Random, language: str) -> dict[str, object]:
    """Return a message and the JSON of the fields that occur in it, or the way back."""
    slots = scene(rng, language)
    fields: list[list[str]] = phrases(language, "fields")
    slot_of = {key: slot for key, slot, _ in fields}
    parts = {key: expand(rng, sentence, slots) for key, _, sentence in fields}
    task, back = phrases(language, "extract")
    keys = rng.sample(list(parts), rng.randrange(1, 5))
    sentences = [parts[key] for key in keys]
    found = _json({key: slots[slot_of[key]] for key in keys})
    if rng.random() < 0.2:
        return chat(f"{back}\n{found}", " ".join(sentences))
    noise = lines_of(rng, language)[0] if rng.random() < 0.5 else ""
    shuffled = rng.sample(sentences, len(sentences))
    text = " ".join(([noise] if noise else []) + shuffled)
    ask = task.replace("{keys}", ", ".join(keys))
    if rng.random() < 0.5:
        return chat(text, found, system=ask)
    return chat(f"{ask}\n{text}", found)


def lookup_table(rng: random.Random, language: str) -> dict[str, object]:
    """Return a list of names with values, and questions that ask for one of them."""
    russian = language == "ru"
    names = list(dict.fromkeys(invented_name(rng, russian) for _ in range(rng.randrange(3, 9))))
    kind = rng.randrange(3)
    values = [_values(rng, russian)[kind] for _ in names]
    mark = rng.choice((": ", " = ", " - ", " -> "))
    joint = rng.choice(("\n", "; ", ", "))
    table = joint.join(f"{name}{mark}{value}" for name, value in zip(names, values, strict=True))
    turns: list[str] = []
    for index in rng.sample(range(len(names)), min(len(names), rng.randrange(1, 4))):
        question: str = rng.choice(phrases(language, "look_up"))
        turns += [question.format(names[index]), values[index]]
    return chat(*turns, system=table)


def _values(rng: random.Random, russian: bool) -> tuple[str, str, str]:
    number, name = str(rng.randrange(2, 999)), invented_name(rng, russian)
    return number, name, rng.choice(words("ru", "days")) if russian else str(rng.randrange(9))


def copying(rng: random.Random, language: str) -> dict[str, object]:
    """Return a random row of names and numbers, said again once or twice."""
    russian = language == "ru"
    row = [
        invented_name(rng, russian) if rng.random() < 0.6 else order_number(rng)
        for _ in range(rng.randrange(4, 16))
    ]
    joined = rng.choice((", ", " ", "\n", "; ")).join(row)
    asks: list[str] = phrases(language, "again")
    turns = [rng.choice(asks) + joined, joined]
    if rng.random() < 0.5:
        turns += [rng.choice(phrases(language, "once_more")), joined]
    return chat(*turns)
