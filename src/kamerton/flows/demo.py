"""`kamerton demo`: the whole way on the bundled support desk of a fictional company."""

from dataclasses import dataclass
from pathlib import Path

from kamerton.core.events import Sink
from kamerton.flows.check import Checked, check_data
from kamerton.flows.evaluate import Evaluated, evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.report import write_evaluation_report
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace

__all__ = ["DESK", "Demo", "side_by_side"]

DESK = Path(__file__).parents[1] / "demo_desk"
"""Folder of the bundled desk: examples, held-out questions and the recipe."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A run of the demo, step by step, so that each can be shown before the next.

    Attributes:
        folder: Where its variant, run and report go.
        sink: Receives events.
    """

    folder: Path
    sink: Sink

    @property
    def workspace(self) -> Workspace:
        """The demo's own project."""
        return Workspace(self.folder)

    def recipe(self) -> Recipe:
        """Read the bundled recipe.

        Returns:
            The recipe.
        """
        return Recipe.read(DESK / "recipe.toml")

    def check(self) -> Checked:
        """Audit the desk's examples.

        Returns:
            The findings.
        """
        files = {"train": str(DESK / "train.jsonl"), "holdout": str(DESK / "holdout.jsonl")}
        return check_data(self.recipe().data.model_copy(update=files), self.sink)

    def train(self) -> Made:
        """Train the LoRA from the beginning.

        Returns:
            The variant.
        """
        return make_variant(self.recipe(), DESK, self.workspace, self.sink, fresh=True)

    def evaluate(self, made: Made) -> Evaluated:
        """Compare the LoRA with zero-shot and few-shot prompting on held-out questions.

        Args:
            made: What `train` gave.

        Returns:
            The comparison.
        """
        return evaluate_variants([made.variant], self.workspace, self.sink)

    def report(self, made: Made, evaluated: Evaluated) -> Path:
        """Write the HTML report.

        Args:
            made: What `train` gave.
            evaluated: What `evaluate` gave.

        Returns:
            The file.
        """
        path = self.folder / "report.html"
        write_evaluation_report(path, evaluated, self.workspace, made.variant.name)
        return path


def side_by_side(evaluated: Evaluated) -> tuple[str, dict[str, str]]:
    """Choose a question that the last variant answers as its reference does and others do not.

    Args:
        evaluated: A comparison.

    Returns:
        The question, and the answers by variant with the reference last.
    """
    last = evaluated.answers[-1]

    def telling(number: int) -> bool:
        return last.texts[number].strip() == evaluated.items[number].reference.strip()

    numbers = range(len(evaluated.items))
    chosen = next((number for number in numbers if telling(number)), 0)
    item = evaluated.items[chosen]
    answers = {a.variant: a.texts[chosen] for a in evaluated.answers}
    return str(item.chat[-1]["content"]), {**answers, "reference": item.reference}
