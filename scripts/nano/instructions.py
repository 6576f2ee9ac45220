"""Small instructions: rewrite, translate, shorten, count, sort, repeat, greet."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from grammar import capitalise, chat, expand
from service import lines_of, scene
from texts import read, words
from words import invented_name

Conversation = dict[str, object]


def _bank(language: str, kind: str) -> list[Any]:
    entries: list[Any] = read("instructions")[language][kind]
    return entries


def rewrite(rng: random.Random, language: str) -> Conversation:
    """Return a rude sentence made polite."""
    rude, polite = rng.choice(_bank(language, "rewrites"))
    slots = scene(rng, language)
    ask = rng.choice(_bank(language, "polite"))
    alone = rng.random() < 0.3
    rude, polite = expand(rng, rude, slots), expand(rng, polite, slots)
    return chat(rude, polite, system=ask.strip(": \n") + ".") if alone else chat(ask + rude, polite)


def translate(rng: random.Random, language: str) -> Conversation:
    """Return sentences or words translated between English and Russian."""
    slots = scene(rng, "en")
    chosen = rng.sample(read("instructions")["translations"], 3)
    pairs = [tuple(expand(rng, side, slots) for side in pair) for pair in chosen]
    if rng.random() < 0.3:
        pairs = rng.sample(read("instructions")["words"], 4)
    ask = rng.choice(_bank(language, "translate"))
    if language == "ru":
        pairs = [(target, source) for source, target in pairs]
    turns: list[str] = []
    for source, target in pairs[: rng.randrange(1, len(pairs) + 1)]:
        turns += [ask + source, target]
    return chat(*turns)


def summary(rng: random.Random, language: str) -> Conversation:
    """Return a long message and its topic in one line."""
    asked, _, topic = lines_of(rng, language)
    slots = scene(rng, language)
    ask = rng.choice(_bank(language, "summary_ask"))
    text = expand(rng, _bank(language, "summary_text")[0], slots | {"asked": asked})
    answer = rng.choice(_bank(language, "summary_answer"))
    return chat(ask + text, answer.replace("{n}", slots["name"]).replace("{t}", topic.name))


def _items(rng: random.Random, language: str) -> list[str]:
    size = rng.randrange(2, 7)
    kind = rng.randrange(3)
    first_names = (
        words("en", "first") if language == "en" else words("ru", "men") + words("ru", "women")
    )
    if kind == 0:
        return rng.sample(words(language, "colours"), size)
    if kind == 1:
        return rng.sample(first_names, size)
    return [invented_name(rng, language == "ru") for _ in range(size)]


def text_task(rng: random.Random, language: str) -> Conversation:
    """Return a copying, listing, counting, sorting or letter-case task."""
    items = _items(rng, language)
    line = lines_of(rng, language)[0] if rng.random() < 0.4 else ", ".join(items)
    answers = (
        line,
        line,
        "\n".join(f"- {item}" for item in items),
        "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1)),
        str(len(items)),
        ", ".join(sorted(items)),
        ", ".join(items).upper(),
        ", ".join(items).lower(),
        items[0],
        items[-1],
    )
    asks: list[str] = _bank(language, "tasks")
    ask, answer = rng.choice(list(zip(asks, answers, strict=True)))
    source = line if answer is line else ", ".join(items)
    return chat(rng.choice(ask.split("|")) + source, answer)


def arithmetic(rng: random.Random, language: str) -> Conversation:
    """Return one to three small sums."""
    turns: list[str] = []
    for _ in range(rng.randrange(1, 4)):
        left, right = rng.randrange(1, 20), rng.randrange(1, 20)
        sign, result = rng.choice((("+", left + right), ("+", left + right), ("-", left - right)))
        ask: str = rng.choice(_bank(language, "sums"))
        turns += [ask.format(f"{left} {sign} {right}"), str(result)]
    return chat(*turns)


def small_talk(rng: random.Random, language: str) -> Conversation:
    """Return one to three lines of small talk."""
    turns: list[str] = []
    for questions, answers in rng.sample(_bank(language, "small_talk"), rng.randrange(1, 4)):
        turns += [rng.choice(questions.split("|")), rng.choice(answers.split("|"))]
    return chat(*turns)


def remember(rng: random.Random, language: str) -> Conversation:
    """Return a conversation in which the customer says a name or number and asks for it later."""
    slots = scene(rng, language)
    filler, answer, _ = lines_of(rng, language)
    fact = [expand(rng, part, slots) for part in rng.choice(_bank(language, "facts"))]
    middle = [filler, answer] if rng.random() < 0.6 else []
    return chat(fact[0], fact[1], *middle, fact[2], fact[3])


def tone(rng: random.Random, language: str) -> Conversation:
    """Return an answer made shorter, or a plain message written as a letter."""
    asked, answer, _ = lines_of(rng, language)
    slots = scene(rng, language)
    first = answer.split(". ")[0].rstrip(".!?") + "."
    shorten, ask, letter = _bank(language, "tone")
    if rng.random() < 0.5:
        return chat(shorten + answer, first)
    slots |= {"asked": asked, "Asked": capitalise(asked)}
    return chat(expand(rng, ask, slots), expand(rng, letter, slots))


INSTRUCTIONS: tuple[tuple[Callable[[random.Random, str], Conversation], float], ...] = (
    (rewrite, 2.0),
    (translate, 1.5),
    (summary, 1.5),
    (text_task, 2.5),
    (arithmetic, 0.7),
    (small_talk, 1.0),
    (remember, 2.0),
    (tone, 1.5),
)


def instruction(rng: random.Random, language: str) -> Conversation:
    """Return one small instruction and its answer."""
    makers, weights = zip(*INSTRUCTIONS, strict=True)
    maker: Callable[[random.Random, str], Conversation] = rng.choices(makers, weights)[0]
    return maker(rng, language)
