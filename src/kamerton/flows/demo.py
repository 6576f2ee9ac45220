"""`kamerton demo`: the whole way on the bundled support desk of a fictional company."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kamerton.core.errors import ModelError
from kamerton.core.events import Sink
from kamerton.evaluation.checks import worth_of
from kamerton.flows.check import Checked, check_data
from kamerton.flows.evaluate import Evaluated, evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.report import write_evaluation_report
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.smollm2 import find_smollm2

__all__ = ["DESK", "Demo", "DemoBase", "Shown", "base_at_hand", "shown_answers"]

DESK = Path(__file__).parents[1] / "demo_desk"
"""Folder of the bundled desk: examples, held-out questions and the recipes."""

DemoBase = Literal["smollm2", "nano"]
"""The bases that the demo can be shown on."""

_RECIPES: dict[DemoBase, str] = {"smollm2": "recipe_smollm2.toml", "nano": "recipe.toml"}


def base_at_hand() -> DemoBase:
    """Choose the base to show the demo on, without asking the network.

    Returns:
        The real base where `make base` has brought it, else the bundled one.
    """
    try:
        find_smollm2()
    except ModelError:
        return "nano"
    # Reading the file needs an extra that `pip install .` leaves out.
    return "smollm2" if find_spec("gguf") else "nano"


@dataclass(frozen=True, slots=True)
class Demo:
    """A run of the demo, step by step, so that each can be shown before the next.

    Attributes:
        folder: The folder of its variant, run and report.
        base: The base to adapt.
    """

    folder: Path
    base: DemoBase = "nano"

    @property
    def workspace(self) -> Workspace:
        """The demo's own project."""
        return Workspace(self.folder)

    @property
    def recipe_file(self) -> Path:
        """The bundled recipe, to read and to copy."""
        return DESK / _RECIPES[self.base]

    def recipe(self) -> Recipe:
        """Read the bundled recipe.

        Returns:
            The recipe.
        """
        return Recipe.read(self.recipe_file)

    def check(self, sink: Sink) -> Checked:
        """Audit the desk's examples, and whether they give away a held-out question.

        Args:
            sink: Receives progress.

        Returns:
            The findings.
        """
        data = self.recipe().data
        files = {"train": str(DESK / data.train), "holdout": str(DESK / str(data.holdout))}
        return check_data(data.model_copy(update=files), sink)

    def train(self, sink: Sink) -> Made:
        """Train the LoRA from the beginning.

        Args:
            sink: Receives events.

        Returns:
            The variant.
        """
        return make_variant(self.recipe(), DESK, self.workspace, sink, fresh=True)

    def evaluate(self, made: Made, sink: Sink) -> Evaluated:
        """Compare the LoRA with zero-shot and few-shot prompting on held-out questions.

        Args:
            made: The result of `train`.
            sink: Receives progress.

        Returns:
            The comparison.
        """
        return evaluate_variants([made.variant], self.workspace, sink)

    def report(self, made: Made, evaluated: Evaluated) -> Path:
        """Write the HTML report.

        Args:
            made: The result of `train`.
            evaluated: The result of `evaluate`.

        Returns:
            The file.
        """
        path = self.folder / "report.html"
        write_evaluation_report(path, evaluated, self.workspace, made.variant.name)
        return path


@dataclass(frozen=True, slots=True)
class Shown:
    """A held-out question with what was answered.

    Attributes:
        question: A customer's question.
        answers: The answers by variant, the trained one last.
        reference: The right answer.
        right: Whether the trained variant's answer holds the facts that were asked for.
    """

    question: str
    answers: dict[str, str]
    reference: str
    right: bool


def shown_answers(evaluated: Evaluated) -> tuple[Shown, ...]:
    """Choose questions for facts to show: one that the last variant answers rightly, one wrongly.

    Args:
        evaluated: A comparison.

    Returns:
        The first of each kind, the right one first; fewer where it answers all alike.
    """
    # An alarm, which has no facts and thus no worth, says less: it is answered by a fixed text.
    worths = worth_of(evaluated.checks[0], evaluated.items, evaluated.answers[-1].texts)
    chosen = (next((n for n, worth in enumerate(worths) if worth == w), None) for w in (1, 0))
    return tuple(
        Shown(
            str(evaluated.items[number].chat[-1]["content"]),
            {answers.variant: answers.texts[number] for answers in evaluated.answers},
            evaluated.items[number].reference,
            right=worths[number] == 1,
        )
        for number in chosen
        if number is not None
    )
