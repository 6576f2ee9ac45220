"""Choosing demonstrations: few, short, unlike one another, and the same on every machine."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from kamerton.core.files import hash_json
from kamerton.core.protocols import Chat
from kamerton.core.seeds import unit_interval
from kamerton.prompting.diverse import diverse

__all__ = ["PossibleDemonstration", "Selection", "choose_demonstrations"]

Selection = Literal["varied", "random", "diverse", "nearest"]
"""How worked examples are chosen."""

_MOST_TO_CHOOSE_FROM = 1_000


@dataclass(frozen=True)
class PossibleDemonstration:
    """A chat that could be shown as a worked example.

    Attributes:
        messages: From a user's turn to an assistant's; system messages are left out when shown.
        label: Its class, if it has one.
    """

    messages: Chat
    label: str | None = None

    @cached_property
    def shown(self) -> tuple[dict[str, Any], ...]:
        """The messages that would be shown."""
        return tuple(dict(message) for message in self.messages if message["role"] != "system")

    @cached_property
    def content_hash(self) -> str:
        """The content that tells it from others; its location does not."""
        return hash_json([self.shown, self.label])

    @cached_property
    def num_characters(self) -> int:
        """Length of all its texts."""
        return sum(len(str(message.get("content") or "")) for message in self.shown)

    @cached_property
    def script(self) -> str:
        """The alphabet that most of its first turn is written in, such as `CYRILLIC`."""
        letters = [c for c in str(self.shown[0].get("content") or "")[:500] if c.isalpha()]
        names = Counter(unicodedata.name(letter, "?").split()[0] for letter in letters)
        # The name breaks ties, so that the order of letters does not matter.
        return max(names, key=lambda name: (names[name], name)) if names else ""


def choose_demonstrations(
    candidates: Sequence[PossibleDemonstration],
    k: int,
    *,
    seed: int = 0,
    max_characters: int | None = None,
    selection: Selection = "varied",
) -> tuple[tuple[dict[str, Any], ...], ...]:
    """Choose worked examples for a few-shot prompt.

    "varied": labels come in turn, the ones least like those already shown first. Each draws from
    the shorter half of its examples, in the script shown least so far. "random": the seed draws
    them. "diverse": maximal marginal relevance over the questions. "nearest": the prompt chooses
    for each question, so here are at most 1,000 to choose from. The order of the candidates does
    not matter, and a duplicate counts once.

    Args:
        candidates: Training examples only: what is measured must not be shown.
        k: How many to choose, 0 or more; fewer are returned when there are not enough.
        seed: Draws among equals.
        max_characters: Most characters of all chosen together; longer candidates are passed over.
        selection: How they are chosen.

    Returns:
        Chats for `Prompt.demonstrations`, in a shuffled order that the seed fixes.
    """
    usable = {c.content_hash: c for c in candidates if _is_worked_example(c)}
    if selection != "varied":
        most = _MOST_TO_CHOOSE_FROM if selection == "nearest" and k else k
        drawn = _drawn(list(usable.values()), most, seed, selection)
        return tuple(c.shown for c in _within(drawn, max_characters))
    groups = _group(list(usable.values()), seed)
    order = _spread(list(groups), min(k, len(groups)), seed)
    order += sorted(set(groups) - set(order), key=lambda label: unit_interval(seed, label))
    chosen: list[PossibleDemonstration] = []
    scripts: Counter[str] = Counter()
    room = float("inf") if max_characters is None else max_characters
    while len(chosen) < k and any(groups.values()):
        for label in order:
            fitting = [c for c in groups[label] if c.num_characters <= room]
            groups[label] = fitting
            if not fitting or len(chosen) == k:
                continue
            # Groups are in order of preference; `min` keeps the first of equals.
            pick = min(fitting, key=lambda candidate: scripts[candidate.script])
            fitting.remove(pick)
            chosen.append(pick)
            scripts[pick.script] += 1
            room -= pick.num_characters
    chosen.sort(key=lambda candidate: unit_interval(seed, "order", candidate.content_hash))
    return tuple(candidate.shown for candidate in chosen)


def _drawn(
    candidates: list[PossibleDemonstration], k: int, seed: int, selection: Selection
) -> list[PossibleDemonstration]:
    """Choose regardless of labels, in the order in which they are shown."""
    drawn = sorted(candidates, key=lambda c: unit_interval(seed, "draw", c.content_hash))
    if selection != "diverse":
        return drawn[:k]
    # Likeness is counted for every two of them.
    some = drawn[:_MOST_TO_CHOOSE_FROM]
    chosen = [some[at] for at in diverse([str(c.shown[0]["content"]) for c in some], k)]
    return sorted(chosen, key=lambda c: unit_interval(seed, "order", c.content_hash))


def _within(
    candidates: Iterable[PossibleDemonstration], max_characters: int | None
) -> Iterator[PossibleDemonstration]:
    """Pass over what leaves no room."""
    room = float("inf") if max_characters is None else max_characters
    for candidate in candidates:
        if candidate.num_characters <= room:
            room -= candidate.num_characters
            yield candidate


def _is_worked_example(candidate: PossibleDemonstration) -> bool:
    roles = [message["role"] for message in candidate.shown]
    return len(roles) > 1 and roles[0] == "user" and roles[-1] == "assistant"


def _group(
    candidates: list[PossibleDemonstration], seed: int
) -> dict[str, list[PossibleDemonstration]]:
    """Group by label; in each group the shorter half comes first, drawn by the seed."""
    groups: dict[str, list[PossibleDemonstration]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.label or "", []).append(candidate)
    for label, group in groups.items():
        group.sort(key=lambda c: (c.num_characters, c.content_hash))
        half = (len(group) + 1) // 2
        short = {c.content_hash for c in group[:half]}
        groups[label] = sorted(
            group,
            key=lambda c: (
                c.content_hash not in short,
                unit_interval(seed, "draw", c.content_hash),
            ),
        )
    return groups


def _spread(labels: list[str], num: int, seed: int) -> list[str]:
    """Order labels so that each is as unlike the ones before it as can be."""
    left = sorted(labels, key=lambda label: (unit_interval(seed, "label", label), label))
    if not num:
        return []
    chosen = [left.pop(0)]
    pieces = {label: _pieces(label) for label in labels}
    nearest = {label: _likeness(pieces[label], pieces[chosen[0]]) for label in left}
    while left and len(chosen) < num:
        pick = min(left, key=lambda label: nearest[label])
        left.remove(pick)
        chosen.append(pick)
        for label in left:
            nearest[label] = max(nearest[label], _likeness(pieces[label], pieces[pick]))
    return chosen


def _pieces(label: str) -> frozenset[str]:
    text = f"  {label.lower()} "
    return frozenset(text[i : i + 3] for i in range(len(text) - 2))


def _likeness(first: frozenset[str], second: frozenset[str]) -> float:
    """Compare two labels by their shared letter triples (Jaccard), 0 to 1."""
    return len(first & second) / len(first | second)
