"""Permissively licensed real text, turned into conversations of the same shape."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

from grammar import chat

Row = dict[str, object]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _label_chats(rng: random.Random, rows: list[Row], per_chat: int) -> Iterator[dict[str, object]]:
    """Yield few-shot chats; the system text lists the labels that occur and some that do not."""
    by_label: dict[str, list[str]] = {}
    for row in rows:
        by_label.setdefault(str(row["label"]).replace("_", " "), []).append(str(row["text"]))
    names = sorted(by_label)
    for texts in by_label.values():
        rng.shuffle(texts)
    while True:
        alive = [name for name in names if by_label[name]]
        if len(alive) < 3:
            return
        chosen = rng.sample(alive, min(len(alive), rng.randrange(2, 6)))
        key = rng.choice(("", "label: ", "intent: ", "topic: "))
        turns: list[str] = []
        for _ in range(per_chat):
            name = rng.choice(chosen)
            if by_label[name]:
                turns += [by_label[name].pop(), key + name]
        if turns:
            rng.shuffle(chosen)
            yield chat(*turns, system=f"Labels: {', '.join(chosen)}." if rng.random() < 0.7 else "")


def _movie_chats(rows: list[Row]) -> Iterator[dict[str, object]]:
    """Yield good film-ticket answers; contexts over 1,500 characters are left out."""
    for row in rows:
        if row.get("label") is True and len(str(row["prompt"])) < 1500:
            yield chat(str(row["prompt"]), str(row["completion"]))


def material_documents(folder: Path, rng: random.Random) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield (language, document) from the licensed data sets in the folder.

    Args:
        folder: the material folder; its `data` folder holds the gzipped rows.
        rng: source of the order.

    Yields:
        The language and one conversation.
    """
    data = folder / "data"
    for name in ("clinc150.train.jsonl.gz", "multidogo_tickets.train.jsonl.gz"):
        for document in _label_chats(rng, read_rows(data / name), per_chat=5):
            yield "en", document
    for document in _movie_chats(read_rows(data / "tm3_movies_kto.jsonl.gz")):
        yield "en", document
    for row in read_rows(data / "ru_seed_tasks.train.jsonl.gz"):
        if len(str(row["prompt"])) + len(str(row["completion"])) < 1500:
            yield "ru", chat(str(row["prompt"]), str(row["completion"]))
    for name in ("ru_persona_chat.jsonl.gz", "ru_chatterbot_chat.jsonl.gz"):
        for row in read_rows(data / name):
            yield "ru", {"messages": row["messages"]}
