"""The manifest of a variant: what it is and how it was made.

The content hash covers what decides the variant's answers: base, prompt, what of the rendering the
model sees, method and the adapter's files; not its name, date or metrics, nor where answers end.
"""

from typing import Any

from pydantic import Field

from kamerton.core.files import hash_json
from kamerton.core.settings import Settings

__all__ = ["FORMAT_VERSION", "BaseRecord", "DataRecord", "VariantManifest"]

FORMAT_VERSION = 2
_IDENTITY = ("prompt", "method", "files")
# The first format hashed where answers are cut, and not whether the model thinks before them.
_IDENTITY_1 = ("prompt", "generation", "method", "files")
_SEEN: tuple[tuple[str, str, Any], ...] = (
    ("render", "thinking", False),
    ("render", "date", ""),
    ("render", "template_arguments", {}),
    ("adapter", "new_tokens", []),
)
"""What else of a recipe changes the tokens that the model sees: section, key, default."""


class BaseRecord(Settings):
    """The base a variant was made for."""

    id: str
    """As the recipe named it."""
    architecture: str
    """Transformers class."""
    num_parameters: int
    """Count."""
    weight_hash: str
    """Over its weight files."""
    tokenizer_hash: str
    """Over its tokenizer."""
    template_hash: str
    """Over its chat template."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Chat templates that training used, by name: "default", and "tool_use" where the tokenizer has
    another for chats with tools. Variants of the first format keep none."""
    commit: str = ""
    """Of the Hub, where the base came from there."""
    quantise: str = "none"
    """How the weights of its blocks are held: "none", "nf4" or "int8"."""


class DataRecord(Settings):
    """The examples a variant learned from."""

    place: str
    """As the recipe named them."""
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


class VariantManifest(Settings):
    """What a variant is and how it was made: `variant.json`."""

    format_version: int = FORMAT_VERSION
    """Of this file."""
    name: str
    """Name."""
    content_hash: str = ""
    """Over what decides its answers; filled in when it is written."""
    base: BaseRecord
    """The base."""
    prompt: dict[str, Any]
    """`system` and `demonstrations`."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """Defaults for generating."""
    method: str
    """Kind of adapter, or "none"."""
    objective: str
    """Kind of objective, or "none"."""
    files: dict[str, str] = Field(default_factory=dict)
    """Hash of every other file of the folder but the card."""
    recipe: dict[str, Any]
    """The recipe as plain values."""
    recipe_folder: str = "."
    """What the recipe's paths are relative to."""
    data: DataRecord
    """The examples."""
    seed: int
    """Of training."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Measured while training and in the last comparison."""
    comparison: str = ""
    """Markdown table of the last comparison."""
    parents: list[str] = Field(default_factory=list)
    """Content hashes of variants it started from."""
    combination: dict[str, Any] = Field(default_factory=dict)
    """How its parents were combined, and notes on what that may break; empty if it was trained."""
    licence: str = ""
    """Of the variant, if stated."""
    kamerton_version: str
    """That made it."""
    created: str
    """UTC, ISO 8601."""

    def identity(self, version: int | None = None) -> str:
        """Hash what decides the variant's answers.

        Args:
            version: As that format of the manifest does it; as its own does when None.

        Returns:
            SHA-256 in hex.
        """
        plain = self.model_dump(mode="json")
        # The same weights under another folder or Hub id are the same base.
        base = {key: value for key, value in plain["base"].items() if key.endswith("_hash")}
        if self.base.quantise != "none":
            base["quantise"] = self.base.quantise
        if (version or self.format_version) == 1:
            return hash_json({**{key: plain[key] for key in _IDENTITY_1}, "base": base})
        seen = {
            f"{section}.{key}": plain["recipe"].get(section, {}).get(key, default)
            for section, key, default in _SEEN
        }
        # Its hash stands for the default template.
        seen["templates"] = {
            name: text for name, text in self.base.templates.items() if name != "default"
        }
        return hash_json({**{key: plain[key] for key in _IDENTITY}, "base": base, "seen": seen})

    def is_same(self, other: "VariantManifest") -> bool:
        """Tell whether two variants answer alike, whatever formats they were written in.

        Args:
            other: The other one.

        Returns:
            Whether what decides their answers is the same.
        """
        return self.identity(FORMAT_VERSION) == other.identity(FORMAT_VERSION)
