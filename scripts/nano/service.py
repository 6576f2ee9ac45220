"""Service-desk conversations and answers grounded in the facts of a system text."""

from __future__ import annotations

import random
import re

from grammar import chat, expand, pick
from texts import Topic, phrases, topics
from words import Slots, english_scene, russian_scene

QUESTION_START = re.compile(
    r"^(как|можно|можете|где|когда|кто|что|сколько|какой|какая|какие|почему|есть)\b", re.IGNORECASE
)


def scene(rng: random.Random, language: str) -> Slots:
    """Return fresh slots for a language."""
    return english_scene(rng) if language == "en" else russian_scene(rng)


def say(rng: random.Random, template: str, slots: Slots) -> str:
    """Return an expanded sentence; `{q}` becomes a question mark or a full stop."""
    text = expand(rng, template, slots)
    if "{q}" in text:
        text = text.replace("{q}", "?" if QUESTION_START.match(text) else ".")
    return text


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"\w{5,}", text.lower())}


def fitting_answer(rng: random.Random, topic: Topic, question: str, slots: Slots) -> str:
    """Return an answer of the topic, most often one that shares words with the question."""
    asked = _stems(question)
    answers = [say(rng, answer, slots) for answer in topic.answers]
    weights = [1 + 6 * len(asked & _stems(answer)) for answer in answers]
    return rng.choices(answers, weights)[0]


def opener(rng: random.Random, language: str, topic: Topic, slots: Slots) -> str:
    """Return a customer's first message, sometimes with a greeting or without capitals."""
    text = say(rng, rng.choice(topic.asks), slots)
    hello: str = rng.choice(phrases(language, "hello"))
    if hello.endswith(", ") and not text.startswith("I "):
        text = text[:1].lower() + text[1:]
    text = hello + text
    return text.lower() if rng.random() < 0.08 else text


def service_chat(rng: random.Random, language: str) -> dict[str, object]:
    """Return a conversation about one topic, with one to four exchanges."""
    slots = scene(rng, language)
    topic = rng.choice(topics(language))
    turns = [opener(rng, language, topic, slots)]
    turns.append(
        rng.choice(phrases(language, "reply_hello")) + fitting_answer(rng, topic, turns[0], slots)
    )
    for question, answer in rng.sample(
        topic.later, rng.choice((0, 0, 1, 1, min(2, len(topic.later))))
    ):
        turns += [say(rng, question, slots), say(rng, answer, slots)]
    if rng.random() < 0.2:
        other = rng.choice(topics(language))
        question = say(rng, rng.choice(other.asks), slots)
        turns += [question, fitting_answer(rng, other, question, slots)]
    if rng.random() < 0.25:
        question, answer = rng.choice(phrases(language, "thanks"))
        turns += [expand(rng, question, slots), expand(rng, answer, slots)]
    system = pick(rng, phrases(language, "system"), slots) if rng.random() < 0.4 else ""
    return chat(*turns, system=system)


def _layout(rng: random.Random, language: str, facts: list[str]) -> str:
    shape = rng.randrange(4)
    if shape == 0:
        return " ".join(facts)
    if shape == 1:
        return "\n".join(f"- {fact}" for fact in facts)
    if shape == 2:
        return "\n".join(f"{number}. {fact}" for number, fact in enumerate(facts, 1))
    head = rng.choice(
        ("Facts:", "Rules:", "Information:")
        if language == "en"
        else ("Факты:", "Правила:", "Информация:")
    )
    return head + "\n" + "\n".join(facts)


def grounded_chat(rng: random.Random, language: str) -> dict[str, object]:
    """Return questions answered by copying from stated facts, or refused where no fact fits."""
    every = [fact for topic in topics(language) for fact in topic.facts]
    chosen = rng.sample(every, rng.randrange(2, 8))
    company = scene(rng, language)
    stated: list[str] = []
    pairs: list[tuple[str, str]] = []
    for fact, question, answer in chosen:
        slots = scene(rng, language)
        # One choice such as [opened|used] must agree in all three sentences.
        joined = expand(rng, _tie(rng, f"{fact}\n{question}\n{answer}"), slots)
        fact_text, question_text, answer_text = joined.split("\n")
        stated.append(fact_text)
        pairs.append((question_text, answer_text))
    absent = [fact for fact in every if fact not in chosen]
    turns: list[str] = []
    for question_text, answer_text in rng.sample(pairs, min(len(pairs), rng.choice((1, 1, 2, 3)))):
        if rng.random() < 0.22:
            turns += [
                say(rng, rng.choice(absent)[1], scene(rng, language)),
                pick(rng, phrases(language, "unknown"), company),
            ]
        turns += [
            rng.choice(phrases(language, "hello")[:6]).replace(", ", ". ") + question_text,
            answer_text,
        ]
    layout = _layout(rng, language, stated)
    if rng.random() < 0.75:
        return chat(*turns, system=pick(rng, phrases(language, "system"), company) + "\n" + layout)
    words = ("Context", "Question") if language == "en" else ("Контекст", "Вопрос")
    turns[0] = f"{words[0]}: {layout}\n{words[1]}: {turns[0]}"
    return chat(*turns)


def _tie(rng: random.Random, text: str) -> str:
    """Resolve equal choices in the same way at every place where they occur."""
    for choice in sorted(set(re.findall(r"\[[^\[\]]*\]", text))):
        text = text.replace(choice, rng.choice(choice[1:-1].split("|")))
    return text


def lines_of(rng: random.Random, language: str) -> tuple[str, str, Topic]:
    """Return one customer message, its answer and its topic: raw material for other themes."""
    slots = scene(rng, language)
    topic = rng.choice(topics(language))
    question = say(rng, rng.choice(topic.asks), slots)
    return question, fitting_answer(rng, topic, question, slots), topic
