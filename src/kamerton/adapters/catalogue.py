"""The catalogue of methods: one line each."""

from collections.abc import Mapping, Sequence
from typing import Literal

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings, attach_bottleneck
from kamerton.adapters.bottleneck.fusion import FusionSettings, attach_fusion, load_fusion
from kamerton.adapters.bottleneck.stack import load_bottlenecks
from kamerton.adapters.full import FullSettings, attach_full, load_full
from kamerton.adapters.ia3 import Ia3Settings, attach_ia3, load_ia3
from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.adapters.virtual.prefix import PrefixSettings, attach_prefix, load_prefix
from kamerton.adapters.virtual.prompt import PromptTuningSettings, attach_prompt, load_prompt
from kamerton.adapters.with_score_head import SCORE_HEAD_FILE, load_headed
from kamerton.core.errors import AdapterError
from kamerton.core.settings import Settings
from kamerton.models.base import Base

__all__ = ["AdapterSettings", "NoAdapterSettings", "attach", "load"]


class NoAdapterSettings(Settings):
    """No trained part: the variant is its prompt."""

    kind: Literal["none"] = "none"
    """Prompt only: nothing is trained."""


AdapterSettings = (
    NoAdapterSettings
    | LoraSettings
    | PrefixSettings
    | PromptTuningSettings
    | BottleneckSettings
    | FusionSettings
    | Ia3Settings
    | FullSettings
)
"""One member per method."""


def attach(
    base: Base,
    settings: AdapterSettings,
    seed: int,
    opening: Sequence[int] = (),
    members: Sequence[Mapping[str, bytes]] = (),
) -> Adapter:
    """Attach a fresh adapter.

    Args:
        base: The base.
        settings: Of a trained method.
        seed: For its first values.
        opening: Token ids that a training text begins with, for methods that begin as a text.
        members: Files of the variants that the settings name, for methods made of others.

    Returns:
        The adapter.

    Raises:
        AdapterError: If it does not fit the base.
    """
    match settings:
        case LoraSettings():
            return attach_lora(base, settings, seed)
        case PrefixSettings():
            return attach_prefix(base, settings, seed, opening)
        case PromptTuningSettings():
            return attach_prompt(base, settings, seed, opening)
        case BottleneckSettings():
            return attach_bottleneck(base, settings, seed)
        case FusionSettings():
            return attach_fusion(base, members)
        case Ia3Settings():
            return attach_ia3(base, settings)
        case FullSettings():
            return attach_full(base, settings)
        case _:
            raise AdapterError(f"adapter.kind: '{settings.kind}' has nothing to train")


def load(base: Base, method: str, files: Mapping[str, bytes]) -> Adapter:
    """Attach a stored adapter.

    Args:
        base: The base it was made for.
        method: Its kind.
        files: Its files by name.

    Returns:
        The adapter, with its score head if it has one.

    Raises:
        AdapterError: If it does not fit the base or the method is unknown.
    """
    adapter = _load(base, method, files)
    return load_headed(base, adapter, files) if SCORE_HEAD_FILE in files else adapter


def _load(base: Base, method: str, files: Mapping[str, bytes]) -> Adapter:
    match method:
        case "lora":
            return load_lora(base, files)
        case "prefix":
            return load_prefix(base, files)
        case "prompt":
            return load_prompt(base, files)
        case "bottleneck":
            return load_bottlenecks(base, files)
        case "fusion":
            return load_fusion(base, files)
        case "ia3":
            return load_ia3(base, files)
        case "full":
            return load_full(base, files)
        case _:
            raise AdapterError(f"adapter.kind: '{method}' is not known to this version")
