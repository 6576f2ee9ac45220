"""The pretraining corpus of nano: seeded, bilingual, written by templates and a little real text.

python scripts/nano/corpus.py --characters 30000000 --out build/nano/corpus.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from formats import (
    classification,
    copying,
    escalation,
    extraction,
    few_shot,
    invented_labels,
    lookup_table,
)
from instructions import instruction
from material import material_documents
from prose import prose
from service import grounded_chat, service_chat

Document = dict[str, object]
Maker = Callable[[random.Random, str], Document]

ENGLISH_SHARE = 0.52
# The demo's company and our own name must stay unseen, or a test of tuning would be unfair.
FORBIDDEN = ("veresk", "вереск", "kamerton", "камертон")
THEMES: dict[str, tuple[tuple[Maker, float], ...]] = {
    "broad": (
        (service_chat, 0.30),
        (grounded_chat, 0.20),
        (few_shot, 0.09),
        (invented_labels, 0.04),
        (classification, 0.06),
        (escalation, 0.03),
        (extraction, 0.07),
        (lookup_table, 0.05),
        (instruction, 0.20),
        (prose, 0.09),
    ),
    # The second stage teaches to use the context: most answers stand in it word for word.
    "copying": (
        (service_chat, 0.16),
        (grounded_chat, 0.26),
        (few_shot, 0.08),
        (invented_labels, 0.06),
        (classification, 0.05),
        (escalation, 0.02),
        (extraction, 0.10),
        (lookup_table, 0.08),
        (copying, 0.08),
        (instruction, 0.16),
        (prose, 0.05),
    ),
}


def contents(document: Document) -> list[str]:
    """Return the texts of a document, whether conversation or prose."""
    if "text" in document:
        return [str(document["text"])]
    messages = document["messages"]
    assert isinstance(messages, list)
    return [str(message["content"]) for message in messages]


def allowed(document: Document) -> bool:
    """Return whether no forbidden name occurs."""
    joined = " ".join(contents(document)).lower()
    return not any(word in joined for word in FORBIDDEN)


def template_documents(seed: int, mix: str = "broad") -> Iterator[tuple[str, Document]]:
    """Yield an endless seeded stream of (language, document) written by our templates."""
    rng = random.Random(seed)
    makers, weights = zip(*THEMES[mix], strict=True)
    while True:
        language = "en" if rng.random() < ENGLISH_SHARE else "ru"
        maker: Maker = rng.choices(makers, weights)[0]
        document = maker(rng, language)
        if allowed(document):
            yield language, document


def corpus(
    seed: int, characters: int, material: Path | None, mix: str = "broad"
) -> Iterator[tuple[str, Document]]:
    """Yield the shuffled corpus: real text first drawn whole, then templates up to the size.

    Args:
        seed: seed of every choice.
        characters: least number of characters of all documents together.
        material: folder of licensed text, or None to go without.
        mix: name of the theme weights, "broad" or "copying".

    Yields:
        The language ("en" or "ru") and the document.
    """
    documents: list[tuple[str, Document]] = []
    if material is not None:
        real = material_documents(material, random.Random(seed + 1))
        documents += [(language, document) for language, document in real if allowed(document)]
    size = sum(len(text) for _, document in documents for text in contents(document))
    for language, document in template_documents(seed, mix):
        if size >= characters:
            break
        documents.append((language, document))
        size += sum(map(len, contents(document)))
    random.Random(seed + 2).shuffle(documents)
    yield from documents


def material_folder(option: str) -> Path | None:
    """Return the material folder from the option, the environment or the default place."""
    default = Path(__file__).resolve().parents[3] / "shared" / "material"
    folder = Path(option or os.environ.get("KAMERTON_MATERIAL", "") or default)
    return folder if (folder / "data").is_dir() else None


def main() -> None:
    """Write the corpus as JSON lines."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--characters", type=int, default=30_000_000)
    parser.add_argument("--material", default="")
    parser.add_argument("--mix", choices=sorted(THEMES), default="broad")
    parser.add_argument("--templates-only", action="store_true", help="leave the material out")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    material = None if options.templates_only else material_folder(options.material)
    counts = {"en": 0, "ru": 0}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as stream:
        for language, document in corpus(options.seed, options.characters, material, options.mix):
            counts[language] += sum(map(len, contents(document)))
            stream.write(json.dumps({"language": language, **document}, ensure_ascii=False) + "\n")
    print(f"characters: {counts}")


if __name__ == "__main__":
    main()
