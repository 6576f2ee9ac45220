"""A small template language: `[a|b]` picks one branch, `{name}` fills a slot; both may nest."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence


def expand(rng: random.Random, template: str, slots: Mapping[str, str]) -> str:
    """Return the template with every choice made and every slot filled.

    Args:
        rng: source of the choices.
        template: text with `[a|b]` choices and `{name}` slots.
        slots: value of each slot.

    Returns:
        The expanded text.
    """
    text = template
    while (start := text.rfind("[")) >= 0:
        end = text.index("]", start)
        text = text[:start] + rng.choice(text[start + 1 : end].split("|")) + text[end + 1 :]
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def pick(rng: random.Random, templates: Sequence[str], slots: Mapping[str, str]) -> str:
    """Return one of the templates, expanded."""
    return expand(rng, rng.choice(templates), slots)


def capitalise(text: str) -> str:
    """Return the text with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def chat(*turns: str, system: str = "") -> dict[str, object]:
    """Return a conversation of alternating user and assistant turns."""
    messages = [{"role": "system", "content": system}] if system else []
    for index, text in enumerate(turns):
        messages.append({"role": "assistant" if index % 2 else "user", "content": text})
    return {"messages": messages}
