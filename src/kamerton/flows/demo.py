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
    """

    folder: Path

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

    def check(self, sink: Sink) -> Checked:
        """Audit the desk's examples.

        Args:
            sink: Receives progress.

        Returns:
            The findings.
        """
        files = {"train": str(DESK / "train.jsonl"), "holdout": str(DESK / "holdout.jsonl")}
        return check_data(self.recipe().data.model_copy(update=files), sink)

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
            made: What `train` gave.
            sink: Receives progress.

        Returns:
            The comparison.
        """
        return evaluate_variants([made.variant], self.workspace, sink)

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
    """Choose a question for a fact that the last variant answers word for word.

    Args:
        evaluated: A comparison.

    Returns:
        The question, and the answers by variant with the reference last.
    """
    last = evaluated.answers[-1]

    def telling(number: int) -> bool:
        return last.texts[number].strip() == evaluated.items[number].reference.strip()

    # A fact says more than an alarm, which is answered the same for every product.
    numbers = sorted(
        range(len(evaluated.items)), key=lambda number: not evaluated.items[number].extra["facts"]
    )
    chosen = next((number for number in numbers if telling(number)), numbers[0])
    item = evaluated.items[chosen]
    answers = {a.variant: a.texts[chosen] for a in evaluated.answers}
    return str(item.chat[-1]["content"]), {**answers, "reference": item.reference}
