"""Blind votes that `kamerton chat A B` keeps, read back as wins, ties and losses."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.core.errors import EvaluationError
from kamerton.core.files import hash_json

__all__ = ["ALIKE", "Vote", "Votes", "no_pairs_beside", "read_votes", "votes_on"]

ALIKE = "alike"
"""Column that is true where neither answer was better."""

_ENDING = ".no-pairs.jsonl"


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote on two answers.

    Attributes:
        names: The variants; the better one first, unless they were alike.
        hashes: Their content hashes; empty where the vote does not say.
        answers: What they answered.
        is_alike: Whether neither was better.
        prompt: The messages that were answered.
        conversation: Votes of one conversation are not independent; empty where it is not known.
    """

    names: tuple[str, str]
    hashes: tuple[str, str]
    answers: tuple[str, str]
    is_alike: bool
    prompt: tuple[Mapping[str, Any], ...]
    conversation: str = ""

    @property
    def question(self) -> str:
        """Hash of what was answered."""
        return hash_json([dict(message) for message in self.prompt])


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes on two variants.

    Attributes:
        variant: The variant whose share is told.
        against: The other one.
        votes: The votes on the two.
    """

    variant: str
    against: str
    votes: tuple[Vote, ...]

    @property
    def values(self) -> list[float]:
        """What each vote says for the variant: 1, 0, or a half where both were alike."""
        return [0.5 if v.is_alike else float(v.names[0] == self.variant) for v in self.votes]

    def sides(self, vote: Vote) -> tuple[str, str]:
        """Give the answers of the variant and of the other one.

        Args:
            vote: One of these votes.

        Returns:
            Both.
        """
        first, second = vote.answers
        return (first, second) if vote.names[0] == self.variant else (second, first)


def no_pairs_beside(path: Path) -> Path:
    """Name the file of votes that are no pairs to learn from: alike, or with an empty answer.

    Args:
        path: The file of the other votes.

    Returns:
        `votes.no-pairs.jsonl` beside `votes.jsonl`.
    """
    return path.with_name(path.stem + _ENDING)


def read_votes(path: Path) -> list[Vote]:
    """Read votes, and those beside them that give no pair to learn from.

    Args:
        path: The file that `kamerton chat A B` wrote.

    Returns:
        The votes, in order.

    Raises:
        EvaluationError: If a file cannot be read, or a row is no vote.
    """
    votes = []
    beside = no_pairs_beside(path)
    for file in (path, beside):
        if not file.exists() and (file == beside or beside.exists()):
            # Whoever only found answers alike has no pairs.
            continue
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise EvaluationError(
                f"--votes {file}: cannot be read: {error}", hint="kamerton chat A B writes votes"
            ) from None
        votes += [_vote(file, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    return votes


def votes_on(votes: Sequence[Vote], hashes: Mapping[str, str]) -> tuple[list[Votes], list[str]]:
    """Take the votes on variants of a comparison; what was trained again since is another one.

    Args:
        votes: Votes on any variants.
        hashes: Content hashes of the comparison's variants by name, in order.

    Returns:
        The votes on each two of the variants, the later one's share against the earlier one; and
        what the other votes are about, in words.

    Raises:
        EvaluationError: If there are none on these variants.
    """
    names = {content_hash: name for name, content_hash in hashes.items()}
    found: dict[tuple[str, str], list[Vote]] = {}
    left: Counter[str] = Counter()
    order = list(hashes)
    for vote in votes:
        here = [names.get(one, "") for one in vote.hashes]
        if not all(here) or here[0] == here[1]:
            left[_about(vote, hashes)] += 1
            continue
        # A variant may have another name than when it was voted on.
        renamed = Vote(
            (here[0], here[1]), vote.hashes, vote.answers, vote.is_alike, vote.prompt,
            vote.conversation,
        )  # fmt: skip
        later, earlier = sorted(here, key=order.index, reverse=True)
        found.setdefault((later, earlier), []).append(renamed)
    others = [f"{count} on {about}" for about, count in left.most_common()]
    if not found:
        raise EvaluationError(
            f"--votes: no vote is on two of {', '.join(order)} as they are now, "
            f"found {'; '.join(others) or 'none at all'}",
            hint=f"kamerton chat {' '.join(order[-2:])} takes votes on them",
        )
    return [Votes(*pair, tuple(voted)) for pair, voted in found.items()], others


def _about(vote: Vote, hashes: Mapping[str, str]) -> str:
    pair = " and ".join(sorted(vote.names))
    if not all(vote.hashes):
        return f"{pair} without a content hash (a base, or an earlier version of Kamerton)"
    if set(vote.names) <= hashes.keys():
        return f"{pair} before they were trained again"
    return pair


def _vote(path: Path, line: int, text: str) -> Vote:
    try:
        row = json.loads(text)
    except ValueError:
        row = None
    needed = ("prompt", "chosen", "rejected", "better", "worse")
    if not isinstance(row, dict) or any(name not in row for name in needed):
        raise EvaluationError(
            f"--votes {path}:{line}: a vote has the fields {', '.join(needed)}",
            hint="kamerton chat A B writes such votes",
        )
    prompt = row["prompt"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    return Vote(
        names=(str(row["better"]), str(row["worse"])),
        hashes=(str(row.get("better_hash") or ""), str(row.get("worse_hash") or "")),
        answers=(str(row["chosen"]), str(row["rejected"])),
        is_alike=bool(row.get(ALIKE)),
        prompt=tuple(prompt),
        conversation=str(row.get("conversation") or ""),
    )
