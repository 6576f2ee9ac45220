"""Business cases with small made-up data: a task, its checks, and which method first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kamerton.core.files import write_atomically

__all__ = ["CASES", "Case", "lay_out"]

_FOLDER = Path(__file__).parents[1] / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """A business case; its folder in `kamerton/cases` holds examples, checks and a page.

    Attributes:
        name: Its name and that of its folder.
        task: The task, as the system text says it.
    """

    name: str
    task: str

    @property
    def checks(self) -> str:
        """The checks of its recipe, as TOML."""
        return (_FOLDER / self.name / "checks.toml").read_text(encoding="utf-8")


CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case("classify", "Decide what a message to a shop is about."),
        Case(
            "tone",
            "Rewrite the sentence in our tone and in its language: calm, no exclamation marks, no "
            "apology in the place of an answer, no lecturing. Keep the facts.",
        ),
        Case(
            "support",
            "You are the support desk of a maker of lamps. Answer in one or two sentences, in the "
            "language of the question, and end with [escalate: yes] where somebody may be hurt or "
            "a lawyer is named, else with [escalate: no].",
        ),
        Case(
            "extract",
            "Read an order of lamps. Give the product as it is called, the number of pieces, the "
            "town in its basic form and the customer's name; null where the letter does not say.",
        ),
        Case(
            "segments",
            "Write the news for the audience, in the language of the request and in at most two "
            "sentences after the greeting. Newcomers are greeted with Welcome (Добро пожаловать), "
            "regulars with Hi (Привет), companies with Dear colleagues (Уважаемые коллеги). Keep "
            "the facts and promise nothing.",
        ),
        Case(
            "compliance",
            "Rewrite the line so that it may be published, in its language. Say savings plan "
            "(накопительный план), expected yield (ожидаемая доходность) and welcome bonus "
            "(приветственный бонус). No promise of income, no superlatives, no 100 %, no free "
            "money.",
        ),
    )
}
"""The cases by name."""


def lay_out(case: Case, folder: Path) -> Path:
    """Copy a case's examples and page into a project.

    Args:
        case: The case.
        folder: The project's folder.

    Returns:
        The file of examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("examples.jsonl", "METHOD.md"):
        write_atomically(folder / name, (_FOLDER / case.name / name).read_bytes())
    return folder / "examples.jsonl"
