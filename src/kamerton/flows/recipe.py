"""The recipe: everything a variant is made from, as one TOML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kamerton.adapters.catalogue import AnyAdapterSettings
from kamerton.adapters.lora.lora import LoraSettings
from kamerton.core.audience import AudienceSettings
from kamerton.core.generation import GenerationSettings
from kamerton.core.settings import Settings, apply_overrides, read_toml
from kamerton.data.rendering.renderer import RenderSettings
from kamerton.data.settings import DataSettings
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.models.cut import cut_name
from kamerton.models.dtype import DType
from kamerton.models.quantised.codecs import Quantisation
from kamerton.objectives.catalogue import AnyObjectiveSettings
from kamerton.objectives.sft import SftSettings
from kamerton.store.variants import Variant, is_variant_name
from kamerton.training.settings import TrainSettings

__all__ = ["BaseSettings", "PromptSettings", "Recipe", "recipe_of"]


class BaseSettings(Settings):
    """The base; `base = "name"` is short for `base.id = "name"`."""

    id: str = "builtin:nano"
    """A Hub id such as "Qwen/Qwen3-0.6B", a local folder, a GGUF file ("model.gguf", or
    "hub:owner/name:model.gguf"), "builtin:nano", or "builtin:smollm2" after `make base`."""
    dtype: DType = "auto"
    """Of weights and computation; "auto" is bfloat16 where the machine computes faster
    in it; on a CPU that is measured once and kept in the cache folder of the user."""
    device: str = "auto"
    """"auto" takes a GPU when there is one; or "cpu", "cuda", "cuda:1", "mps"."""
    quantise: Quantisation = "none"
    """Linear layers in 4 bits ("nf4", QLoRA) or 8 ("int8"): much less memory, somewhat slower."""
    layers: str = ""
    """Decoder blocks that are kept, from 0, such as "0,4,8,12": a small student for distillation,
    which is written to the user's cache once. Its name becomes `ID#layers=0,4,8,12`. Empty keeps
    all. A cut base answers nothing sensible before it has learned again."""

    @model_validator(mode="before")
    @classmethod
    def _named_by_what_is_kept(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("layers"):
            name = cut_name(str(values.get("id", "builtin:nano")), str(values["layers"]))
            return {**values, "id": name, "layers": ""}
        return values


class PromptSettings(Settings):
    """What stands before every conversation, in training and afterwards."""

    system: str = ""
    """System text; empty means none."""
    demonstrations: int = Field(default=0, ge=0, le=64)
    """How many training examples are shown before the question (few-shot). 0 to 64."""
    selection: Literal["varied", "random", "diverse", "nearest"] = "varied"
    """Which examples are shown. "varied": labels in turn, short ones first. "random": drawn by the
    seed. "diverse": typical questions that are unlike one another (MMR). "nearest": for each
    question those that ask most alike (BM25), so that every question has its own; the variant then
    keeps up to 1,000 training examples, and a server cannot share their cost between questions."""
    seed: int | None = Field(default=None, ge=0)
    """Draws demonstrations and their order; left out, it is `train.seed`."""


class Recipe(Settings):
    """Everything a variant is made from."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"start": "start_from"}

    name: str
    """Name of the variant: letters, digits, "-", "_" and ".", at most 100."""
    purpose: str = ""
    """What the variant is for, in a sentence or two; stands in its card."""
    audience: AudienceSettings = AudienceSettings()
    """Who may use the variant where it is served. Parents' audiences narrow it."""
    base: BaseSettings = BaseSettings()
    """The frozen pretrained model."""
    data: DataSettings
    """Examples."""
    prompt: PromptSettings = PromptSettings()
    """System text and demonstrations."""
    render: RenderSettings = RenderSettings()
    """How examples become tokens and what of them is learned."""
    adapter: AnyAdapterSettings = Field(default=LoraSettings(), discriminator="kind")
    """The small trained part."""
    objective: AnyObjectiveSettings = Field(default=SftSettings(), discriminator="kind")
    """What training minimises."""
    start_from: str = ""
    """Name of a trained variant to go on from; its adapter, and its prompt unless the recipe has
    one, are taken over. For preferences it is also the reference. Empty begins anew."""
    train: TrainSettings = TrainSettings()
    """The training loop."""
    generation: GenerationSettings = GenerationSettings()
    """How the variant answers, where nobody asks for something else."""
    evaluate: EvaluationSettings = EvaluationSettings()
    """How variants are compared."""
    log: Literal["none", "tensorboard"] = "none"
    """Where events go besides the console, `events.jsonl` and the store."""

    @model_validator(mode="before")
    @classmethod
    def _base_by_name(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("base"), str):
            return {**values, "base": {"id": values["base"]}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _kind_by_default(cls, values: Any) -> Any:
        # A table without a kind means the default method.
        if isinstance(values, Mapping):
            for table, kind in (("adapter", "lora"), ("objective", "sft")):
                if isinstance(values.get(table), Mapping):
                    values = {**values, table: {"kind": kind, **values[table]}}
        return values

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not is_variant_name(value):
            raise ValueError(
                'must be letters, digits, "-", "_" and ".", begin with a letter or digit and have '
                f"at most 100 of them, got {value!r}"
            )
        return value

    def to_plain(self) -> dict[str, Any]:
        """Give the recipe as plain values, defaults written out: they may change one day.

        Returns:
            What `Recipe.parse` takes.
        """
        return self.model_dump(mode="json")

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe file.

        Args:
            path: The TOML file.
            overrides: `section.key=value`, applied on top.

        Returns:
            The recipe.

        Raises:
            SettingsError: If anything in it is wrong.
        """
        values = read_toml(path)
        if isinstance(values.get("base"), str):
            # So that --set base.dtype=float32 finds a section.
            values["base"] = {"id": values["base"]}
        return cls.parse(apply_overrides(values, overrides), source=str(path))


def recipe_of(variant: Variant) -> Recipe:
    """Read the recipe a variant was made from.

    Args:
        variant: The variant.

    Returns:
        The recipe.

    Raises:
        SettingsError: If this version does not understand it.
    """
    plain = variant.manifest.recipe
    measured = dict(plain.get("evaluate", {}))
    if "max_tokens" in measured:
        # What was measured decided what was served, before recipes had a table for it.
        longest = measured.pop("max_tokens")
        plain = {"generation": {"max_new_tokens": longest}, **plain, "evaluate": measured}
    return Recipe.parse_stored(plain, source=f"{variant.name}'s recipe")
