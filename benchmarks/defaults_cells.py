"""The cells of `defaults.py`: single runs, kept as they end."""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defaults_tasks import METHODS, TASKS
from kamerton.training.measure import mean_loss

from kamerton.core.errors import NotFiniteError
from kamerton.data.dataset import load_examples
from kamerton.flows.prepare import make_prompt, read_examples, renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.flows.task import Parts, make_task
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.training.defaults import auto_learning_rate
from kamerton.training.loop import train

__all__ = ["Bench", "Cell", "Cells", "quiet", "rounded"]


@dataclass(frozen=True)
class Cell:
    """One run."""

    base: str
    task: str
    method: str
    rate: float
    seed: int = 0


class Cells:
    """What was measured, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.known: dict[Cell, dict[str, Any]] = {}
        for line in lines:
            found = json.loads(line)
            self.known[Cell(**found.pop("cell"))] = found

    def add(self, cell: Cell, found: dict[str, Any]) -> None:
        """Keep a result."""
        self.known[cell] = found
        with self.path.open("a") as stream:
            stream.write(json.dumps({"cell": cell.__dict__, **found}) + "\n")
        print(cell, found, flush=True)

    def rates(self, base: str, task: str, method: str) -> dict[float, dict[str, Any]]:
        """Results by rate, seed 0."""
        return {
            cell.rate: found
            for cell, found in self.known.items()
            if (cell.base, cell.task, cell.method, cell.seed) == (base, task, method, 0)
        }


@dataclass(frozen=True)
class Bench:
    """Where things are."""

    material: Path
    work: Path
    cells: Cells
    widths: dict[str, tuple[int, str]] = field(default_factory=dict)

    def load(self, base: str) -> Base:
        """Load one of the three."""
        return load_base(self.id_of(base))

    def id_of(self, base: str) -> str:
        """What a recipe calls it."""
        inside = self.material / "models" / base
        return str(inside) if inside.is_dir() else f"builtin:{base}"

    def recipe(self, cell: Cell) -> Recipe:
        """Say what a cell is."""
        folder, method = self.work / cell.task, METHODS[cell.method]
        return Recipe.parse(
            {
                "name": "cell",
                "base": {"id": self.id_of(cell.base)},
                "data": {
                    "train": str(folder / "train.jsonl"), "holdout": str(folder / "dev.jsonl"),
                },
                "adapter": dict(method.adapter),
                "train": {
                    "learning_rate": cell.rate, "seed": cell.seed, "checkpoint_every_s": 1e6,
                    **method.train,
                },
            }
        )  # fmt: skip

    def run(self, cell: Cell) -> float:
        """Train and measure a cell unless that was done; give the loss that chooses."""
        if cell not in self.cells.known:
            began = time.time()
            try:
                found = self._trained(cell)
            except NotFiniteError:
                found = {"dev": float("inf"), "report": float("inf")}
            self.cells.add(cell, found | {"seconds": time.time() - began})
        return float(self.cells.known[cell]["dev"])

    def _trained(self, cell: Cell) -> dict[str, Any]:
        recipe, base = self.recipe(cell), self.load(cell.base)
        examples = read_examples(recipe, self.work, quiet)
        prompt = make_prompt(recipe, examples.train)
        with tempfile.TemporaryDirectory() as name:
            parts = Parts(None, [], [], self.work)
            task = make_task(recipe, examples, base, prompt, parts, Workspace(Path(name)), quiet)
            outcome = train(task, quiet)
            reported = self._loss(base, cell.task)
        return {
            "dev": outcome.holdout_loss,
            "report": reported,
            "steps": outcome.num_steps,
            "kept": outcome.kept_step,
            "dtype": str(base.dtype),
        }

    def _loss(self, base: Base, task: str, shots: int = 0) -> float:
        """Of the answers that are reported on, behind demonstrations."""
        folder = self.work / task
        recipe = self.recipe(Cell("nano", task, "LoRA", 1.0))
        prompt = make_prompt(recipe, load_examples(folder / "train.jsonl").examples, shots)
        examples = load_examples(folder / "report.jsonl").examples
        rows, _ = renderer_of(base, recipe.render).render_all(examples, prompt.apply)
        return mean_loss(base, rows)

    def prompt_alone(self, base: str, task: str, shots: int) -> None:
        """Measure the base itself, which is not trained."""
        cell = Cell(base, task, f"{shots}-shot", 0.0)
        if cell not in self.cells.known:
            loss = self._loss(self.load(base), task, shots)
            self.cells.add(cell, {"report": loss})

    def default_rate(self, base: str, method: str) -> float:
        """What "auto" gives."""
        recipe = self.recipe(Cell(base, next(iter(TASKS)), method, 1.0))
        return auto_learning_rate(recipe.adapter, "sft", *self.width(base))[0]

    def centre(self, base: str, method: str) -> float:
        """The middle of the grid, which stays where it is when "auto" changes."""
        centre = METHODS[method].centre
        if centre > 0:
            return centre
        # The published rule for Llama-like bases, as it stood when the grids were laid out.
        return -centre * rounded(5e-4 * (2000 / self.width(base)[0]) ** 0.775)

    def width(self, base: str) -> tuple[int, str]:
        """Width and family."""
        if base not in self.widths:
            loaded = load_base(self.id_of(base), weights=False)
            config = loaded.model.config.get_text_config()
            self.widths[base] = int(config.hidden_size), str(config.model_type)
        return self.widths[base]

    def default(self, base: str, task: str, method: str) -> None:
        """Run what "auto" gives."""
        self.run(Cell(base, task, method, rounded(self.default_rate(base, method))))

    def grid(self, base: str, task: str, method: str, factors: tuple[float, ...]) -> None:
        """Try multiples of the centre."""
        for factor in factors:
            self.run(Cell(base, task, method, rounded(self.centre(base, method) * factor)))

    def climb(self, base: str, task: str, method: str, first: float = 1.0) -> None:
        """Halve and double around the best until it is inside.

        Args:
            base: Of `BASES`.
            task: Of `TASKS`.
            method: Of `METHODS`.
            first: Where to begin, in centres.
        """
        start = self.centre(base, method) * first
        losses = {0: self.run(Cell(base, task, method, rounded(start)))}
        while True:
            best = min(losses, key=losses.__getitem__)
            missing = [power for power in (best + 1, best - 1) if power not in losses]
            if not missing:
                return
            for power in missing:
                losses[power] = self.run(Cell(base, task, method, rounded(start * 2.0**power)))


def rounded(rate: float) -> float:
    """Give two digits.

    Args:
        rate: Any.

    Returns:
        As the default rates are.
    """
    return float(f"{rate:.2g}")


def quiet(event: object) -> None:
    """Say nothing.

    Args:
        event: Any.
    """
    del event
