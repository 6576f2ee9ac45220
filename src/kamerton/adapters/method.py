"""A method as a record: its settings, how its adapter is attached and loaded, what it declares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.combine import Combine, How
from kamerton.core.settings import Settings
from kamerton.models.base import Base

__all__ = ["AdapterSettings", "Ingredients", "Method", "Rate"]


class AdapterSettings(Settings):
    """The `[adapter]` table of a recipe; each method's own class adds its options."""

    kind: str
    """The method; each method's class has one literal value here, as its default."""

    @property
    def added_tokens(self) -> tuple[str, ...]:
        """Words that the adapter adds to the tokenizer; none for most methods."""
        return ()

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the variants whose adapters it is made of; none for most methods."""
        return ()


@dataclass(frozen=True, slots=True)
class Ingredients:
    """The ingredients of a fresh adapter besides its settings; most methods take only the seed.

    Attributes:
        seed: The seed of its first values.
        opening: Token ids that a training text begins with, for methods that begin as a text.
        members: Files of the variants that the settings name, for methods made of others.
    """

    seed: int
    opening: Sequence[int] = ()
    members: Sequence[Mapping[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """The peak learning rate that suits a method, where a recipe leaves it at "auto".

    Attributes:
        value: The rate itself, what LoRA's is multiplied by, or the rate over a width of 2,000.
        follows: How it falls as the base grows wider: "lora" as LoRA's rate does, "width" in
            proportion. What stands beside the weights has no scale that follows that size.
    """

    value: float
    follows: Literal["nothing", "lora", "width"] = "nothing"


_S = TypeVar("_S", bound=AdapterSettings)


@dataclass(frozen=True, eq=False)
class Method(Generic[_S]):
    """One method; the catalogue lists all of them.

    Attributes:
        settings: The class of its table in a recipe; all its fields have defaults.
        attach: Puts a fresh adapter on a base. Raises AdapterError where it does not fit.
        load: Puts a stored adapter, given as its files, on a base. Raises AdapterError if the files
            are damaged or do not fit; then the base is as it was.
        rate: Gives the default learning rate; some forms of a method need another than others.
        combine: The ways in which stored adapters become one, the most usual first; often none.
    """

    settings: type[_S]
    attach: Callable[[Base, _S, Ingredients], Adapter]
    load: Callable[[Base, Mapping[str, bytes]], Adapter]
    rate: Callable[[_S], Rate] = lambda _: Rate(1.0, "lora")
    combine: Mapping[How, Combine] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The method's name in recipes and manifests."""
        return str(self.settings.model_fields["kind"].default)
