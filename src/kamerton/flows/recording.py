"""Opens what records requests and takes feedback, for `kamerton serve --record`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kamerton.core.errors import SettingsError
from kamerton.evaluation.live_metrics import MetricsFile, read_metrics
from kamerton.flows.secret import derived_secret
from kamerton.flows.workspace import Workspace

if TYPE_CHECKING:
    from kamerton.serving.feedback import FeedbackIntake
    from kamerton.serving.record_policy import TextPolicy
    from kamerton.serving.recording import Recording

__all__ = ["RecordOptions", "open_recording", "project_metrics", "recorded_store", "store_address"]


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What is recorded, and where.

    Attributes:
        address: URL of a database, or a SQLite file; empty for the project's store.
        text: Whether prompts and answers are stored, and whether personal data is masked first.
        days: Days after which texts are deleted; None keeps them.
        hashes_units: Whether ids of units, conversations and raters are hashed.
    """

    address: str = ""
    text: "TextPolicy" = "none"
    days: float | None = None
    hashes_units: bool = False


@contextmanager
def open_recording(
    options: RecordOptions, project: Path
) -> Iterator[tuple["Recording", "FeedbackIntake"]]:
    """Open the store and begin to write.

    Args:
        options: What is recorded, and where.
        project: Folder of the project.

    Yields:
        What records requests, and what takes feedback; at the end all rows are written.

    Raises:
        SettingsError: If the address is none.
        StoreError: If the store cannot be opened.
    """
    from kamerton.serving.feedback import FeedbackIntake
    from kamerton.serving.feedback_tokens import FeedbackTokens
    from kamerton.serving.record_policy import RecordPolicy
    from kamerton.serving.recording import Recording
    from kamerton.store.database import open_store

    with open_store(store_address(options.address, project)) as store:
        declared = project_metrics(project)
        secret = derived_secret(project, "units") if options.hashes_units else b""
        policy = RecordPolicy(options.text, secret)
        recording = Recording(
            store,
            policy,
            days=options.days,
            cost=lambda row: declared.cost(row.variant, row.prompt_tokens, row.answer_tokens),
            metrics=declared.metrics,
        )
        recording.start()
        try:
            intake = FeedbackIntake(
                store,
                declared.metrics,
                policy,
                count=recording.counts.add_feedback,
                tokens=FeedbackTokens(derived_secret(project, "feedback")),
            )
            yield recording, intake
        finally:
            recording.stop()


def store_address(given: str, project: Path) -> Path | str:
    """Say which store is meant.

    Args:
        given: URL of a database, or a SQLite file; empty for the project's store.
        project: Folder of the project.

    Returns:
        What `open_store` takes.

    Raises:
        SettingsError: If it is neither.
    """
    if not given:
        return Workspace(project).store
    if "://" in given:
        return given
    if not given.endswith(".db"):
        raise SettingsError(
            f"a store is the URL of a database or a file that ends in .db, got '{given}'",
            hint="--record without a URL stands after the variants: kamerton serve shop --record",
        )
    return Path(given)


def recorded_store(given: str, project: Path) -> Path | str:
    """Say which store is read: one that is there.

    Args:
        given: URL of a database, or a SQLite file; empty for the project's store.
        project: Folder of the project.

    Returns:
        What `open_store` takes.

    Raises:
        SettingsError: If it is neither, or the file is not there.
    """
    address = store_address(given, project)
    if isinstance(address, Path) and not address.exists():
        raise SettingsError(
            f"{address} is not there: nothing was recorded yet",
            hint="kamerton serve --record records; --store and --project name another place",
        )
    return address


def project_metrics(project: Path) -> MetricsFile:
    """Read which metrics a project declares.

    Args:
        project: Folder of the project.

    Returns:
        What its `metrics.toml` says; only the built-in ones where there is none.

    Raises:
        SettingsError: If the file is wrong.
    """
    place = Workspace(project).metrics
    return read_metrics(place) if place.exists() else MetricsFile()
