"""`kamerton chat`: a conversation with one variant, or with two about the same questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kamerton.core.errors import VariantError
from kamerton.core.protocols import Engine, Generation
from kamerton.data.rendered import RenderSettings
from kamerton.flows.prepare import renderer_of
from kamerton.flows.variants import base_of, make_ready
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.load import load_base
from kamerton.store.variants import find_variant

__all__ = ["Conversation"]


@dataclass(eq=False)
class Conversation:
    """What was said, with each of the variants.

    Attributes:
        engines: By the name the user gave.
        generation: How to answer.
        turns: Messages so far, by name: each variant has its own answers.
    """

    engines: dict[str, Engine]
    generation: Generation
    turns: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    @classmethod
    def open(
        cls, names: Sequence[str], workspace: Workspace, generation: Generation
    ) -> "Conversation":
        """Load variants.

        Args:
            names: Variants or bases, one or two.
            workspace: Where variants are.
            generation: How to answer.

        Returns:
            An empty conversation.

        Raises:
            VariantError: If a name is unknown or stands twice.
        """
        if len(set(names)) != len(names):
            raise VariantError(
                f"'{names[0]}' cannot be compared with itself",
                hint="name one variant, or two different ones",
            )
        # Each gets a base of its own here; one base for many variants is the server's business.
        engines: dict[str, Engine] = {}
        for name in names:
            if name.startswith("builtin:"):
                base = load_base(name)
                renderer = renderer_of(base, RenderSettings())
                engines[name] = EmbeddedEngine(base, renderer)
            else:
                variant = find_variant(name, workspace.variants)
                engines[name] = make_ready(variant, base_of(variant)).engine
        return cls(engines, generation)

    def ask(self, message: str) -> dict[str, str]:
        """Ask all variants and wait for their whole answers.

        Args:
            message: What the user says.

        Returns:
            Answers by name.
        """
        return {name: "".join(self._answer(name, message)) for name in self.engines}

    def stream(self, message: str) -> Iterator[str]:
        """Ask the only variant and give its answer piece by piece.

        Args:
            message: What the user says.

        Yields:
            Text as it comes.
        """
        (name,) = self.engines
        yield from self._answer(name, message)

    def reset(self) -> None:
        """Forget what was said."""
        self.turns = {}

    def _answer(self, name: str, message: str) -> Iterator[str]:
        turns = self.turns.setdefault(name, [])
        turns.append({"role": "user", "content": message})
        pieces = []
        for event in self.engines[name].stream([turns], self.generation):
            pieces.append(event.text)
            yield event.text
        turns.append({"role": "assistant", "content": "".join(pieces)})
