"""The catalogue of methods: one line each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union

from kamerton.adapters import full, ia3
from kamerton.adapters.adapter import Adapter
from kamerton.adapters.bottleneck import fusion
from kamerton.adapters.bottleneck import method as bottleneck
from kamerton.adapters.combine import Combination, Combine, CombineSettings, How
from kamerton.adapters.lora import method as lora
from kamerton.adapters.method import AdapterSettings, Ingredients, Method
from kamerton.adapters.virtual import prefix, prompt
from kamerton.adapters.with_score_head import SCORE_HEAD_FILE, load_headed
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base

__all__ = [
    "METHODS",
    "AdapterSettings",
    "AnyAdapterSettings",
    "NoAdapterSettings",
    "attach",
    "combine",
    "load",
    "method_of",
    "ways_to_combine",
]


class NoAdapterSettings(AdapterSettings):
    """No trained part: the variant is its prompt."""

    kind: Literal["none"] = "none"
    """Prompt only: nothing is trained."""


METHODS: tuple[Method[Any], ...] = (
    lora.METHOD,
    prefix.METHOD,
    prompt.METHOD,
    bottleneck.METHOD,
    fusion.METHOD,
    ia3.METHOD,
    full.METHOD,
)
"""Everything that can be trained."""

if TYPE_CHECKING:
    AnyAdapterSettings = AdapterSettings
else:
    # Pydantic chooses the member by its kind, and refuses a kind that is not here.
    AnyAdapterSettings = Union[(NoAdapterSettings, *(method.settings for method in METHODS))]


def method_of(kind: str) -> Method[Any]:
    """Find a method.

    Args:
        kind: The method's name in recipes and manifests.

    Returns:
        Its record.

    Raises:
        AdapterError: If it is unknown, or the kind of a variant without a trained part.
    """
    found = next((method for method in METHODS if method.kind == kind), None)
    if found is not None:
        return found
    known = kind == NoAdapterSettings().kind
    raise AdapterError(
        f"adapter.kind: '{kind}' "
        + ("has nothing to train" if known else "is not known to this version")
    )


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
        settings: The settings of a trained method.
        seed: The seed of its first values.
        opening: Token ids that a training text begins with, for methods that begin as a text.
        members: Files of the variants that the settings name, for methods made of others.

    Returns:
        The adapter.

    Raises:
        AdapterError: If it does not fit the base, or the method is unknown.
    """
    return method_of(settings.kind).attach(base, settings, Ingredients(seed, opening, members))


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
    adapter = method_of(method).load(base, files)
    return load_headed(base, adapter, files) if SCORE_HEAD_FILE in files else adapter


def ways_to_combine(method: str) -> Mapping[How, Combine]:
    """Give the ways in which adapters of a method become one.

    Args:
        method: Its kind, which may be that of a variant without a trained part.

    Returns:
        The most usual first; often none.
    """
    return next((one.combine for one in METHODS if one.kind == method), {})


def combine(
    method: str, parents: Sequence[Mapping[str, bytes]], settings: CombineSettings
) -> Combination:
    """Combine stored adapters of one method and one base.

    Args:
        method: Its kind.
        parents: The files of at least two, by name.
        settings: How the adapters are combined.

    Returns:
        The combined adapter.

    Raises:
        AdapterError: If the method is not combined so, or the parents do not go together.
    """
    ways = ways_to_combine(method)
    if not ways:
        raise AdapterError(f"combine: '{method}' adapters cannot be combined")
    if settings.how not in ways:
        raise AdapterError(
            f"combine: '{method}' adapters are combined by {' or '.join(ways)}, got {settings.how}",
            hint=f"--how {next(iter(ways))}",
        )
    return ways[settings.how](parents, settings)
