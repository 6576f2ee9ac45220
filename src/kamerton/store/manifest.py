"""The manifest of a variant: what it is and how it was made.

The content hash covers what decides the variant's answers: base and its dtype, prompt, rendering,
new tokens, generation defaults, method and the adapter's files; not its name, date or metrics.
Nothing is read from the recipe to open a variant: it only says where the variant came from.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from kamerton.core.audience import AudienceSettings
from kamerton.core.files import hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.settings import Settings

__all__ = ["FORMAT_VERSION", "BaseRecord", "DataRecord", "VariantManifest"]

FORMAT_VERSION = 3
_IDENTITY = ("prompt", "render", "new_tokens", "generation", "method", "files")
# The second format hashed what of the recipe changes the tokens that the model sees.
_IDENTITY_2 = ("prompt", "method", "files")
_SEEN: tuple[tuple[str, str, Any], ...] = (
    ("render", "thinking", False),
    ("render", "date", ""),
    ("render", "template_arguments", {}),
    ("adapter", "new_tokens", []),
)
"""Section, key and default."""


class BaseRecord(Settings):
    """The base a variant was made for."""

    id: str
    """The name that the recipe gave it."""
    architecture: str
    """Transformers class."""
    num_parameters: int
    """Count."""
    weight_hash: str
    """Hash of its weight files."""
    tokenizer_hash: str
    """Hash of its tokenizer."""
    template_hash: str
    """Hash of its chat template."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Chat templates that training used, by name: "default", and "tool_use" where the tokenizer has
    another for chats with tools. Variants of the first format keep none."""
    commit: str = ""
    """Commit of the Hub, where the base came from there."""
    quantise: str = "none"
    """Form of its blocks' weights: "none", "nf4" or "int8"."""
    dtype: str = "auto"
    """Dtype of weights and computation, as the recipe named it."""
    device: str = "auto"
    """Device that it computed on, as the recipe named it; no part of the content hash."""


class DataRecord(Settings):
    """The examples a variant learned from."""

    place: str
    """Their source, as the recipe named it."""
    fingerprint: str
    """Content hash."""
    num_train: int
    """Examples learned from."""
    num_holdout: int
    """Examples kept aside."""
    num_test: int = 0
    """Examples kept aside for comparisons alone."""
    trained_on: str = ""
    """Hash of the file that lists what was learned from; empty where that was not noted."""
    format: str = ""
    """Format of the rows; empty where that was not noted."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field of the format to the column, or template of columns, that it was read from."""
    labels: tuple[str, ...] = ()
    """Labels of the training examples, where they are texts with labels."""
    json_fields: tuple[str, ...] = ()
    """Keys of the training answers, where each is a JSON object."""


class VariantManifest(Settings):
    """What a variant is and how it was made: `variant.json`."""

    format_version: int = FORMAT_VERSION
    """Format of this file."""
    name: str
    """Name."""
    content_hash: str = ""
    """Hash of what decides its answers; filled in when it is written."""
    base: BaseRecord
    """The base."""
    prompt: dict[str, Any]
    """`system` and `demonstrations`."""
    render: dict[str, Any] = Field(default_factory=dict)
    """The part of the rendering that changes the tokens that the model sees: `thinking`, `date` and
    `template_arguments`."""
    new_tokens: tuple[str, ...] = ()
    """Words that the adapter adds to the tokenizer, in order."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """Generation defaults, all of them, as `GenerationSettings` writes them."""
    method: str
    """Kind of adapter, or "none"."""
    objective: str
    """Kind of objective, or "none"."""
    files: dict[str, str] = Field(default_factory=dict)
    """Hash of every other file of the folder but the card."""
    recipe: dict[str, Any]
    """The recipe as plain values: where the variant came from."""
    recipe_folder: str = "."
    """The folder that the recipe's paths are relative to."""
    data: DataRecord
    """The examples."""
    seed: int
    """Seed of training."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Measured while training and in the last comparison."""
    comparison: str = ""
    """Markdown table of the last comparison."""
    parents: list[str] = Field(default_factory=list)
    """Content hashes of variants it started from."""
    combination: dict[str, Any] = Field(default_factory=dict)
    """The way its parents were combined, with notes on what may break; empty if it was trained."""
    audience: AudienceSettings = AudienceSettings()
    """Who may use it where it is served; no part of the content hash."""
    licence: str = ""
    """Licence of the variant, if stated."""
    kamerton_version: str
    """That made it."""
    created: str
    """UTC, ISO 8601."""

    @model_validator(mode="before")
    @classmethod
    def _read_older_format(cls, values: Any) -> Any:
        """Fill in what earlier formats left to the recipe."""
        version = values.get("format_version", FORMAT_VERSION) if isinstance(values, dict) else None
        recipe = values.get("recipe") if isinstance(values, dict) else None
        if not isinstance(version, int) or version >= 3 or not isinstance(recipe, dict):
            return values
        seen = {
            (section, key): _section(recipe, section).get(key, default)
            for section, key, default in _SEEN
        }
        given = _section(values, "generation")
        # A manifest that was written once more, with what was measured, has the new name already.
        longest = given.get("max_new_tokens", given.get("max_tokens"))
        known = {} if longest is None else {"max_new_tokens": longest}
        base = _section(recipe, "base")
        opened = {key: base[key] for key in ("dtype", "device") if key in base}
        return {
            **values,
            "base": {**_section(values, "base"), **opened},
            "render": {key: value for (section, key), value in seen.items() if section == "render"},
            "new_tokens": seen["adapter", "new_tokens"],
            "generation": GenerationSettings.model_validate(known).model_dump(mode="json"),
        }

    def identity(self, version: int | None = None) -> str:
        """Hash what decides the variant's answers.

        Args:
            version: The manifest's format whose rule is used; its own when None.

        Returns:
            SHA-256 in hex.
        """
        version = version or self.format_version
        plain = self.model_dump(mode="json")
        # The same weights under another folder or Hub id are the same base.
        base = {key: value for key, value in plain["base"].items() if key.endswith("_hash")}
        if self.base.quantise != "none":
            base["quantise"] = self.base.quantise
        # Its hash stands for the default template.
        templates = {name: text for name, text in self.base.templates.items() if name != "default"}
        if version == 1:
            # It hashed where answers are cut, and not whether the model thinks before them.
            hashed = {key: plain[key] for key in _IDENTITY_2}
            hashed["generation"] = {"max_tokens": self.generation.get("max_new_tokens")}
            return hash_json({**hashed, "base": base})
        if version == 2:
            seen = {
                f"{section}.{key}": plain["recipe"].get(section, {}).get(key, default)
                for section, key, default in _SEEN
            }
            seen["templates"] = templates
            return hash_json(
                {**{key: plain[key] for key in _IDENTITY_2}, "base": base, "seen": seen}
            )
        base |= {"dtype": self.base.dtype, "templates": templates}
        return hash_json({**{key: plain[key] for key in _IDENTITY}, "base": base})

    def is_same(self, other: "VariantManifest") -> bool:
        """Tell whether two variants answer alike, whatever formats they were written in.

        Args:
            other: The other one.

        Returns:
            Whether what decides their answers is the same.
        """
        return self.identity(FORMAT_VERSION) == other.identity(FORMAT_VERSION)


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give a section of plain values; empty where it is absent or no section."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}
