"""Plain paragraphs: notices, letters, product descriptions and short stories."""

from __future__ import annotations

import random

from grammar import capitalise, expand
from service import scene
from texts import read


def paragraph(rng: random.Random, language: str) -> str:
    """Return one paragraph with consistent names and numbers."""
    slots = scene(rng, language)
    sentences: list[str] = []
    for template in rng.choice(read("prose")[language]):
        if template.startswith("?") and rng.random() < 0.4:
            continue
        sentences.append(
            capitalise(expand(rng, template.removeprefix("?").replace(" ?[", " ["), slots))
        )
    joint = "\n" if rng.random() < 0.15 else " "
    return joint.join(sentences)


def prose(rng: random.Random, language: str) -> dict[str, object]:
    """Return a document of one to three paragraphs."""
    count = rng.choice((1, 1, 2, 3))
    return {"text": "\n\n".join(paragraph(rng, language) for _ in range(count))}
