"""`kamerton new`: from a file of examples to a project that can be trained."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kamerton.advisor.cases import Case
from kamerton.advisor.columns import (
    Column,
    answer_candidates,
    columns_in,
    names_rewriting,
    question_candidates,
)
from kamerton.advisor.instructions import instruction
from kamerton.advisor.judged import judged_columns, stars_in
from kamerton.advisor.kinds import Kind, kind_of_task
from kamerton.advisor.project import Plan, recipe_text
from kamerton.advisor.readme import readme_text
from kamerton.core.errors import DataError, SettingsError
from kamerton.core.events import Sink
from kamerton.core.files import write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.data.columns import columns_of
from kamerton.data.dataset import Loaded, load_examples
from kamerton.data.prepared import divide
from kamerton.data.reading.readers import read_rows
from kamerton.data.reading.text_files import open_text
from kamerton.data.rows import Row
from kamerton.data.settings import DataSettings
from kamerton.flows.check import Checked, check_data
from kamerton.flows.new_files import Sources

__all__ = [
    "Choose",
    "Looked",
    "ensure_empty",
    "look_at",
    "make_plan",
    "variant_name",
    "write_project",
]

Choose = Callable[[str, Sequence[Column]], str]
"""Asks which of several columns is the "question" or the "answer"; gives a column."""

_SAMPLE_ROWS = 2_000
_LEAST_EXAMPLES = 12
_FEW_EXAMPLES = 100
_ENOUGH_HELD = 20
_PLAIN = ("text", "classification")
_JUDGED = ("preference", "ranking", "rating", "feedback")
_NO_TEXT = (".parquet", ".gz")


@dataclass(frozen=True, eq=False, slots=True)
class Looked:
    """What a file is.

    Attributes:
        source: The file.
        encoding: Encoding of the text; empty where the file is no text.
        num_columns: Columns of its rows.
        columns: Our fields to its columns; empty where they have our names.
        checked: The examples and their audit.
        kind: The kind of task.
        holdout: A file to choose the step by; empty where a share of the source is.
        test: A file that only an evaluation reads; empty likewise.
        stars: A column that rates the answers, though all of them are learned from alike.
        unused: Columns that nothing is read from.
    """

    source: str
    encoding: str
    num_columns: int
    columns: Mapping[str, str]
    checked: Checked
    kind: Kind
    holdout: str = ""
    test: str = ""
    stars: str = ""
    unused: tuple[str, ...] = ()

    @property
    def language(self) -> str:
        """The language of most texts, as an ISO code."""
        return next(iter(self.checked.audit.languages), "")

    @property
    def shown_columns(self) -> Mapping[str, str]:
        """Our fields to the columns that they are read from."""
        return dict(self.columns) or dict(self.checked.audit.columns)


def look_at(
    given: str | Sources, question: str, answer: str, choose: Choose | None, sink: Sink
) -> Looked:
    """Read a file and tell what it is.

    Args:
        given: The file, or several by what they are for.
        question: Column of the question, or a template of several; empty finds it.
        answer: Column of the answer; empty finds it.
        choose: Asks where several columns fit equally; None refuses them.
        sink: Receives progress.

    Returns:
        What was found.

    Raises:
        DataError: If it cannot be read, or holds too few examples.
        SettingsError: If several columns fit equally and nobody can be asked.
    """
    sources = Sources(given) if isinstance(given, str) else given
    source = sources.train
    sample = [row.fields for row in islice(read_rows(source), _SAMPLE_ROWS) if isinstance(row, Row)]
    columns = _columns(source, sample, question, answer, choose)
    files = {"holdout": sources.holdout, "test": sources.test}
    aside = {part: file for part, file in files.items() if file}
    settings = DataSettings.parse({"train": source, "columns": columns, **aside}, source=source)
    checked = check_data(settings, sink)
    if not checked.loaded.examples:
        raise DataError(
            translated(
                "{source}: none of {rows} can be used",
                source=source,
                rows=translated_count(checked.loaded.num_rows, "row"),
            ),
            hint=translated("kamerton check {source} lists why", source=source),
        )
    kind = kind_of_task(checked.loaded.examples)
    read_from = checked.loaded.schema.sources
    if kind.name == "answers" and names_rewriting(read_from.get("completion", "")):
        kind = Kind("rewriting")
    if kind.name == "classes" and checked.loaded.schema.format == "prompt":
        # Few short answers are labels: they are scored rather than written.
        columns = {"text": read_from["prompt"], "label": read_from["completion"]}
        settings = settings.model_copy(update={"columns": columns})
        checked = check_data(settings, sink)
    if kind.name != "texts" and len(checked.loaded.examples) < _LEAST_EXAMPLES:
        raise DataError(
            translated(
                "{source}: at least {LEAST_EXAMPLES} usable examples are needed to learn "
                "and to measure, found {num_examples}",
                source=source,
                LEAST_EXAMPLES=_LEAST_EXAMPLES,
                num_examples=len(checked.loaded.examples),
            ),
            hint=translated(
                "a prompt with these as demonstrations needs no training: kamerton chat"
            ),
        )
    encoding = "" if not Path(source).is_file() else _encoding(source)
    found = columns_in(sample)
    schema = checked.loaded.schema
    imitates = kind.name in ("answers", "rewriting", "dialogues")
    return Looked(
        source=source,
        encoding=encoding,
        num_columns=len(found),
        columns=columns,
        checked=checked,
        kind=kind,
        holdout=sources.holdout,
        test=sources.test,
        stars=stars_in(sample, found) if imitates else "",
        unused=tuple(c.name for c in found if c.name not in {u.split(".")[0] for u in schema.used}),
    )


def _encoding(source: str) -> str:
    if Path(source).suffix.lower() in _NO_TEXT:
        return ""
    with open_text(Path(source), source, "auto", None) as file:
        return file.encoding


def _columns(
    source: str,
    sample: Sequence[Mapping[str, Any]],
    question: str,
    answer: str,
    choose: Choose | None,
) -> dict[str, str]:
    """Settle which columns are read; nothing where the readers know them by their names."""
    found = columns_in(sample)
    refused: DataError | None = None
    judged = {} if answer else judged_columns(sample, found, question)
    if not question and not answer:
        try:
            loaded = load_examples(source)
        except DataError as error:
            refused = error
        else:
            if judged and loaded.schema.format not in _JUDGED:
                return judged
            is_text = loaded.schema.format == "text"
            used = (
                sorted(loaded.schema.used) if is_text else [loaded.schema.sources.get("text", "")]
            )
            others = answer_candidates(found, used)
            asking = question_candidates(found)
            if _is_understood(loaded, others) or not (asking and others):
                return {}
    if judged:
        return judged
    if refused is not None and len(found) == 1 and not question and not answer:
        # One column without a name of ours is texts to learn from.
        return {"text": found[0].name}
    question = question or _settled("question", question_candidates(found), source, choose, refused)
    left = answer_candidates(found, columns_of(question))
    answer = answer or _settled("answer", left, source, choose, refused)
    return _as_fields(question, answer, found)


def _is_understood(loaded: Loaded, others: Sequence[Column]) -> bool:
    """Tell whether the names of the columns leave no doubt."""
    format = loaded.schema.format
    if format not in _PLAIN or loaded.schema.several_classes:
        return True
    return format == "text" and not others


def _settled(
    role: str,
    candidates: Sequence[Column],
    source: str,
    choose: Choose | None,
    refused: DataError | None,
) -> str:
    if len(candidates) == 1:
        return candidates[0].name
    if not candidates:
        if refused is not None:
            raise refused
        raise SettingsError(
            translated("{source}: no column looks like the {role}", source=source, role=role),
            hint=translated("name it: --{role} COLUMN", role=role),
        )
    if choose is not None:
        return choose(role, candidates)
    joined = "\\n".join(f"{{{column.name}}}" for column in candidates[:2])
    several = f"; several are joined as --question '{joined}'" if role == "question" else ""
    raise SettingsError(
        translated(
            "{source}: several columns may be the {role}: {listed}",
            source=source,
            role=role,
            listed=", ".join(column.shown for column in candidates),
        ),
        hint=translated(
            "name one: --{role} '{name}'{several}",
            role=role,
            name=candidates[0].name,
            several=several,
        ),
    )


def _as_fields(question: str, answer: str, found: Sequence[Column]) -> dict[str, str]:
    column = next((column for column in found if column.name == answer), None)
    if column is None or column.kind in ("label", "number"):
        if column is not None:
            return {"text": question, "label": answer}
        return {"prompt": question, "completion": answer}
    # A list or an object becomes its JSON text.
    return {"prompt": question, "completion": f"{{{answer}}}" if column.is_object else answer}


def make_plan(
    looked: Looked, folder: Path, name: str, task: str, base: str, case: Case | None = None
) -> Plan:
    """Decide what stands in the recipe.

    Args:
        looked: The file.
        folder: The project's folder.
        name: Name of the variant; empty makes one of the file's.
        task: The task in one sentence; may be empty.
        base: The base.
        case: The business case that the file is of; it has a name, a task and checks.

    Returns:
        The plan.
    """
    loaded = looked.checked.loaded
    task = task.strip() or (case.task if case else "")
    number = len(loaded.examples)
    test, holdout = _parts(looked, folder)
    characters = looked.checked.audit.lengths["answer"]["characters"].p99
    # Bases that know English best need a token for each letter of other scripts.
    is_english = set(looked.checked.audit.languages) <= {"en", "unknown"}
    longest = -(-max(32, characters // 2 if is_english else characters) // 32) * 32
    return Plan(
        name=name or (f"{case.name}-lora" if case else variant_name(looked.source)),
        task=task,
        base=base,
        train=_seen_from(folder, looked.source),
        columns=looked.columns,
        kind=looked.kind,
        num_examples=number,
        holdout=holdout,
        test=test,
        unusable=loaded.unusable,
        # The examples of a case are in two languages, and its task is in English.
        system=instruction(looked.kind, task, "en" if case else looked.language),
        max_new_tokens=min(512, longest),
        checks=case.checks if case else "",
    )


def _parts(looked: Looked, folder: Path) -> tuple[float | str, float | str]:
    """Choose test set and holdout: files of their own, or shares."""
    examples = looked.checked.loaded.examples
    test = 0.1 if len(examples) >= 1_000 else 0.2
    if len(examples) < _FEW_EXAMPLES:
        # Intervals over a handful of items say nothing.
        test = 0.3
    # Fewer held-out examples than that choose a step by chance; more are better learned from.
    left = len(examples) if looked.test else len(examples) * (1 - test)
    wanted = math.ceil(100 * _ENOUGH_HELD / left) / 100
    holdout = min(0.2, max(0.05 if len(examples) >= 1_000 else 0.1, wanted))
    shares = DataSettings(
        train=looked.source,
        test=0.0 if looked.test else test,
        holdout=0.0 if looked.holdout else holdout,
    )
    parts = divide(examples, shares)
    if not looked.test and not all((parts[0], parts[1] or looked.holdout, parts[2])):
        test = 0.0
    return (
        _seen_from(folder, looked.test) if looked.test else test,
        _seen_from(folder, looked.holdout) if looked.holdout else holdout,
    )


def variant_name(source: str) -> str:
    """Make a variant's name of a file's name.

    Args:
        source: The file.

    Returns:
        Such as "tickets-lora".
    """
    stem = re.sub(r"[^\w.-]+", "-", Path(source).name.split(".")[0]).strip("-._")
    return f"{stem[:80] or 'task'}-lora"


def _seen_from(folder: Path, source: str) -> str:
    path = Path(source)
    if not path.is_file():
        return source
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        # Another drive of Windows.
        return path.resolve().as_posix()


def write_project(folder: Path, plan: Plan, forecast: str = "") -> list[Path]:
    """Write a project.

    Args:
        folder: A folder that is new or empty.
        plan: What stands in the recipe.
        forecast: Time and memory in a sentence; empty where nothing was measured.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"recipe.toml": recipe_text(plan), "README.md": readme_text(plan, forecast)}
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def ensure_empty(folder: Path) -> None:
    """Refuse a folder that holds something.

    Args:
        folder: The project's folder.

    Raises:
        SettingsError: If it has files, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(
            translated("--to: {folder} must be a new or an empty folder", folder=folder),
            hint=translated("name another: --to FOLDER"),
        )
