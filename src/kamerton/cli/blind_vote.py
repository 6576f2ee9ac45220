"""Votes on two answers in `kamerton chat A B`: blind, in a random order, kept as rows."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import click

from kamerton.cli.answers import print_side_by_side
from kamerton.cli.console import busy, data_console, messages
from kamerton.evaluation.votes import ALIKE, no_pairs_beside

if TYPE_CHECKING:
    from kamerton.flows.chat import Conversation

__all__ = ["BlindVote"]

_ALIKE = "="
_CHOICES = ("1", "2", _ALIKE, "")


class BlindVote:
    """Shows two answers without names and asks which is better.

    Args:
        conversation: With two variants.
        path: Where votes are added, a JSON row each; those that give no pair to learn from stand
            beside, see `no_pairs_beside`.
        seed: Seed of the order in which answers are shown.
    """

    def __init__(self, conversation: "Conversation", path: Path, seed: int) -> None:
        self._conversation, self._path = conversation, path
        self._random = Random(seed)
        self._wins = Counter[str]()

    def ask(self, said: str) -> None:
        """Ask both and take the vote.

        Args:
            said: What the user says.
        """
        conversation = self._conversation
        with busy("waiting for both answers"):
            answers = conversation.ask(said)
        names = list(answers)
        self._random.shuffle(names)
        shown = {str(number): answers[name] for number, name in enumerate(names, 1)}
        print_side_by_side(data_console(), shown)
        if len({" ".join(answer.split()) for answer in answers.values()}) == 1:
            messages.print("both say the same: nothing to vote on", style="dim")
            return
        choice = self._choice()
        better = names[1] if choice == "2" else names[0]
        if choice in ("1", "2"):
            self._wins[better] += 1
            if all(answer.strip() for answer in answers.values()):
                self._add(conversation.vote(better), self._path)
            else:
                messages.print("an empty answer gives no pair to learn from", style="dim")
                self._add(conversation.vote(better), no_pairs_beside(self._path))
        elif choice == _ALIKE:
            self._wins[_ALIKE] += 1
            self._add({**conversation.vote(better), ALIKE: True}, no_pairs_beside(self._path))
        conversation.go_on_with(better)
        messages.print(f"1 was {names[0]}, 2 was {names[1]}", style="dim")

    def _choice(self) -> str:
        """Ask until the answer is one; Ctrl-D is no vote."""
        try:
            return click.prompt(
                "better: 1, 2, = for alike, empty for no vote", prompt_suffix="> ", default="",
                show_default=False, show_choices=False, type=click.Choice(_CHOICES), err=True,
            )  # fmt: skip
        except (EOFError, click.Abort):
            messages.print()
            return ""

    def _add(self, row: dict[str, object], path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Say how the votes fell, and what to do with them."""
        if not self._wins:
            return
        said = [f"{name} {self._wins[name]}" for name in self._conversation.engines]
        messages.print(f"better: {', '.join(said)}, alike {self._wins[_ALIKE]}")
        if self._path.exists():
            messages.print(f"next: kamerton check {self._path}", style="dim")
        if len(self._conversation.hashes) == len(self._conversation.engines):
            names = " ".join(self._conversation.engines)
            command = f"kamerton evaluate {names} --votes {self._path}"
            messages.print(f"who is preferred: {command}", style="dim", soft_wrap=True)
