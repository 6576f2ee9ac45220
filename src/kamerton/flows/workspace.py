"""The folders in which a project keeps its runs, variants and store."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A project folder.

    Attributes:
        root: The folder; paths in recipes are relative to the recipe's own folder.
    """

    root: Path

    @property
    def variants(self) -> Path:
        """Folder of variants."""
        return self.root / "variants"

    @property
    def runs(self) -> Path:
        """Folder of runs: events and checkpoints."""
        return self.root / "runs"

    @property
    def references(self) -> Path:
        """Folder of reference log-probabilities, each under the hash of what it depends on."""
        return self.root / "cache" / "references"

    @property
    def teacher_answers(self) -> Path:
        """Folder of teachers' answers, a file for each teacher, each answer under its hash."""
        return self.root / "cache" / "teachers"

    @property
    def routing_log(self) -> Path:
        """Every change of how requests are routed, a JSON object in each line."""
        return self.root / "routing.jsonl"

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.root / "kamerton.db"

    @property
    def metrics(self) -> Path:
        """The file that declares metrics of live traffic; it may be absent."""
        return self.root / "metrics.toml"

    @property
    def secret(self) -> Path:
        """The file with the project's secret: it signs feedback tokens and hashes ids."""
        return self.root / "kamerton.secret"
