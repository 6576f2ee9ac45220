"""Settings: one declaration per option, read from TOML, overridden by `--set key=value`.

A settings class is a frozen pydantic model beside the code it configures. Each field's docstring
is its help. Unknown keys are errors with a suggestion, and all problems are reported together. A
key that has another name now is an error that gives the new name, except in stored settings.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kamerton.core.errors import SettingsError
from kamerton.core.language import translated

__all__ = ["Settings", "apply_overrides", "read_toml", "suggestion", "toml_value"]

_MOST_NAMED = 5


class Settings(BaseModel):
    """A frozen group of options; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """New name by old name of keys that were renamed; those of a parent class count too."""
    moved_keys: ClassVar[Mapping[str, str]] = {}
    """Old key by what has taken its place in other tables."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "settings") -> Self:
        """Validate plain values.

        Args:
            values: Nested mappings as TOML gives them.
            source: What to name in error messages, usually the file.

        Returns:
            The settings.

        Raises:
            SettingsError: If anything is wrong; it lists every problem with its key.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [
                _problem(cls, detail, source)
                for detail in error.errors()
                if not _only_echoes(detail)
            ]
            raise SettingsError(problems) from None

    @classmethod
    def parse_stored(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """Validate plain values that an older version may have written, with keys as then.

        Args:
            values: Nested mappings, each with its `kind` where it has one.
            source: What to name in error messages.

        Returns:
            The settings.

        Raises:
            SettingsError: If anything is wrong; it lists every problem with its key.
        """
        return cls.parse(_with_new_keys([cls], values), source=source)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.

    Returns:
        Its contents.

    Raises:
        SettingsError: If it is missing, unreadable or not TOML.
    """
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        near = suggestion(path.name, (one.name for one in path.parent.glob("*.toml")), _MOST_NAMED)
        hint = translated("give the path of a recipe, a TOML file")
        raise SettingsError(
            translated("{path}: no such file{near}", path=path, near=near), hint=hint
        ) from None
    except IsADirectoryError:
        raise SettingsError(
            translated("{path}: must be a recipe, found a folder", path=path),
            hint=translated("name a TOML file of the folder"),
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            translated(
                "{path}: a recipe must be UTF-8 text, found byte 0x{value:02x} at {start}",
                path=path,
                value=error.object[error.start],
                start=error.start,
            ),
            hint=translated("save the file as UTF-8"),
        ) from None
    except OSError as error:
        raise SettingsError(
            translated("{path}: cannot be read: {value}", path=path, value=error.strerror or error)
        ) from None
    except RecursionError:
        raise SettingsError(
            translated("{path}: not valid TOML: nested too deeply", path=path)
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            translated("{path}: not valid TOML: {error}", path=path, error=error),
            hint=_toml_hint(text, str(error)),
        ) from None


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `section.key=value` overrides; values are TOML, bare words are text.

    Args:
        values: Nested mappings; left unchanged.
        overrides: Such as `train.epochs=3` or `adapter.targets=["q_proj"]`.

    Returns:
        A new nested mapping.

    Raises:
        SettingsError: If an override has no `=` or goes through a value that is no section.
    """
    merged = _copy(values)
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        path = key.strip().split(".")
        if not separator or not all(path):
            problems.append(f"--set {override}: must look like section.key=value")
            continue
        section: Any = merged
        for part in path[:-1]:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            problems.append(f"--set {override}: {'.'.join(path[:-1])} is a value, not a section")
            continue
        section[path[-1]] = _toml_value(text.strip())
    if problems:
        raise SettingsError(problems)
    return merged


def toml_value(value: str | float) -> str:
    """Write a text or a number as a recipe has it.

    Args:
        value: The value.

    Returns:
        TOML on one line; JSON's texts and numbers are TOML's.
    """
    return json.dumps(value, ensure_ascii=False)


def suggestion(name: str, known: Iterable[str], most: int | None = None) -> str:
    """Word a "did you mean" for a mistyped name.

    Args:
        name: The name that was written.
        known: Names that could have been meant.
        most: Most names to list; None lists all.

    Returns:
        `; did you mean 'x'?`, or the known names when nothing is near, or an empty string.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return translated("; did you mean '{name}'?", name=near[0])
    more = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    listed = f"{', '.join(names[:most])}{more}"
    return translated("; known: {names}", names=listed) if names else ""


def _toml_hint(text: str, reason: str) -> str:
    """Say how to mend a line that is not TOML."""
    place = re.search(r"at line (\d+), column (\d+)", reason)
    lines = text.splitlines()
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    value = line[int(place[2]) - 1 :] if place else ""
    if "\\" in line and ("Unescaped" in reason or "hex value" in reason):
        return (
            'write paths with /, as in "C:/data/rows.jsonl", or in single quotes, '
            "where \\ is a plain character"
        )
    if any(quote in line for quote in "“”„«»‘’"):
        return 'text values need straight quotes: kind = "lora"'
    if value.startswith(("True", "False")):
        return "write true and false in lower case"
    if "Expected '=' after" in reason:
        return 'write key = value, with = between them: kind = "lora"'
    if "overwrite" in reason or "twice" in reason:
        return "a key or a section stands there twice: keep one of them"
    if value[:1] and not value[0].isascii():
        return f'names with other letters than a to z need quotes: "{value.split()[0]}"'
    if any(sign in reason for sign in ("Unterminated", 'Expected "\'"', r"character '\n'")):
        return "a text is not closed: its second quote is missing"
    return 'text values need quotes: kind = "lora"'


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(v) if isinstance(v, Mapping) else v for key, v in values.items()}


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _problem(model: type[BaseModel], detail: ErrorDetails, source: str) -> str:
    path, owners, inside = _follow(model, [str(part) for part in detail["loc"]])
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        renamed = {old: new for owner in owners for old, new in _renamed(owner).items()}
        if path[-1] in renamed:
            return f"{source}: {key} is now {'.'.join([*path[:-1], renamed[path[-1]]])}"
        moved = {old: new for owner in owners for old, new in _moved(owner).items()}
        if path[-1] in moved:
            return f"{source}: {key} is now {moved[path[-1]]}"
        names = {name for owner in owners for name in owner.model_fields}
        return translated(
            "{source}: unknown key '{key}'{near}",
            source=source,
            key=key,
            near=suggestion(path[-1], names),
        )
    if detail["type"] == "union_tag_invalid":
        kinds = {kind for one in inside for kind in _tags(one)}
        found = str(detail["ctx"]["tag"])
        return translated(
            "{source}: {key}.kind: '{found}' is not known{near}",
            source=source,
            key=key,
            found=found,
            near=suggestion(found, kinds),
        )
    if detail["type"] in ("model_type", "model_attributes_type"):
        found = detail["input"]
        meant = isinstance(found, str) and any(found in _tags(one) for one in inside)
        way = f'; write {key}.kind = "{found}"' if meant else ""
        return f"{source}: {key} must be a table, got {found!r}{way}"
    if detail["type"] == "missing":
        return translated("{source}: '{key}' is required", source=source, key=key)
    if detail["type"] in ("tuple_type", "list_type"):
        return f"{source}: {key} must be a list, such as [...], got {detail['input']!r}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{source}: {key + ': ' if key else ''}{message}"
    return f"{source}: {key}: {message[0].lower()}{message[1:]}, got {detail['input']!r}"


def _only_echoes(detail: ErrorDetails) -> bool:
    """Whether a list is called too short because its items, reported by themselves, are wrong."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _follow(
    model: type[BaseModel], loc: Sequence[str]
) -> tuple[list[str], list[type[BaseModel]], list[type[BaseModel]]]:
    """Turn pydantic's `loc` into the user's key, the models that own it and those it may hold.

    Pydantic puts the tag of a chosen union member ("lora") between the keys; no user wrote it.
    """
    path: list[str] = []
    owners, inside = [model], [model]
    is_name = False
    for part in loc:
        tagged = [one for one in inside if part in _tags(one)]
        # Where one member is left, a part that looks like its tag is a field of that name.
        if tagged and len(inside) > 1:
            inside = tagged
            continue
        path.append(part)
        if part.isdigit() or is_name:
            is_name = False
            continue
        owners = inside
        fields = [one.model_fields[part] for one in inside if part in one.model_fields]
        # A table of tables: the next part is the name of one, which the user chose.
        is_name = any(get_origin(field.annotation) is dict for field in fields)
        inside = [found for field in fields for found in _models_in(field.annotation)]
    return path, owners, inside


def _renamed(model: type[BaseModel]) -> dict[str, str]:
    """New names by old ones, of a model and those that it is made from."""
    lines = [vars(one).get("renamed_keys", {}) for one in reversed(model.__mro__)]
    return {old: new for line in lines for old, new in line.items()}


def _moved(model: type[BaseModel]) -> Mapping[str, str]:
    found: Mapping[str, str] = getattr(model, "moved_keys", {})
    return found


def _with_new_keys(models: Sequence[type[BaseModel]], value: Any) -> Any:
    """Rename the old keys of a table, or of every table of a list, and of those inside."""
    if isinstance(value, (list, tuple)):
        return [_with_new_keys(models, one) for one in value]
    fitting = [one for one in models if isinstance(value, Mapping) and _fits(one, value)]
    if len(fitting) != 1:
        return value
    model = fitting[0]
    found = {_renamed(model).get(key, key): inner for key, inner in value.items()}
    for name, field in model.model_fields.items():
        if name in found:
            found[name] = _with_new_keys(_models_in(field.annotation), found[name])
    return found


def _fits(model: type[BaseModel], table: Mapping[str, Any]) -> bool:
    """Whether a table is one of this model, by its `kind` where the model has one."""
    return "kind" not in model.model_fields or table.get("kind") in _tags(model)


def _tags(model: type[BaseModel]) -> set[str]:
    """Values of a model's literal `kind`."""
    kind = model.model_fields.get("kind")
    return set(get_args(kind.annotation)) if kind is not None else set()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
