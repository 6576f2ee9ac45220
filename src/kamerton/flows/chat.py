"""`kamerton chat`: a conversation with one variant, or with two about the same questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from kamerton.core.errors import ModelError, VariantError
from kamerton.core.generation import GenerationSettings
from kamerton.core.language import translated
from kamerton.core.protocols import Engine, Generation, TokenEvent
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.workspace import Workspace
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.load import load_base
from kamerton.store.variants import MANIFEST_FILE, find_variant
from kamerton.variants.load import Opening, load_base_for, say_unpacking
from kamerton.variants.opening import ensure_writes, generation_of, make_ready
from kamerton.variants.rendering import renderer_of

__all__ = ["Conversation", "is_base_name"]

_MAX_TOKENS = 200


@dataclass(eq=False)
class Conversation:
    """A conversation with each of the variants.

    Attributes:
        engines: The engines by the names that the user gave.
        generation: The settings of answers; every turn has its own random stream.
        turns: Messages so far, by name: each variant has its own answers.
        reasoning: Each one's reasoning before its last answer; no part of the messages.
        own: The settings of answers by name, where they are not `generation`.
        hashes: The content hashes of variants by name; a base has none.
        id: Tells one conversation's votes from another's.
    """

    engines: dict[str, Engine]
    generation: Generation
    turns: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    reasoning: dict[str, str] = field(default_factory=dict)
    own: dict[str, Generation] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: token_hex(6))

    @classmethod
    def open(
        cls,
        names: Sequence[str],
        workspace: Workspace,
        *,
        seed: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        opening: Opening | None = None,
    ) -> "Conversation":
        """Load variants.

        Args:
            names: Variants or bases, one or two; a folder of a Transformers model and a GGUF file
                are bases.
            workspace: The workspace of the variants.
            seed: Makes sampled answers repeatable.
            temperature: The temperature of all; each variant's own when None. A base answers like
                the first variant beside it, and greedily where there is none.
            max_tokens: Longest answer of all; each variant's own when None.
            opening: The way bases are opened; None takes it from the variants' manifests.

        Returns:
            An empty conversation.

        Raises:
            VariantError: If a name is unknown or stands twice.
        """
        if len(set(names)) != len(names):
            raise VariantError(
                translated("'{name}' cannot be compared with itself", name=names[0]),
                hint=translated("name one variant, or two different ones"),
            )
        # Each gets a base of its own here; one base for many variants is the server's business.
        engines: dict[str, Engine] = {}
        own: dict[str, GenerationSettings] = {}
        hashes: dict[str, str] = {}
        for name in names:
            if is_base_name(name):
                how = opening or Opening()
                say_unpacking(name, how.sink)
                base = load_base(name, dtype=how.dtype or "auto", device=how.device or "auto")
                renderer = renderer_of(base, RenderSettings())
                engines[name] = EmbeddedEngine(base, renderer)
            else:
                variant = find_variant(name, workspace.variants)
                ensure_writes(variant, "talked to")
                engines[name] = make_ready(variant, load_base_for(variant, opening)).engine
                own[name] = generation_of(variant)
                hashes[name] = variant.manifest.content_hash
        of_bases = next(iter(own.values()), GenerationSettings(max_new_tokens=_MAX_TOKENS))
        asked = {"temperature": temperature, "max_new_tokens": max_tokens}
        changed = {key: value for key, value in asked.items() if value is not None}
        generations = {
            name: own.get(name, of_bases).model_copy(update=changed).generation(seed)
            for name in names
        }
        return cls(engines, generations[names[0]], own=generations, hashes=hashes)

    @property
    def samples(self) -> bool:
        """Whether any of them draws its answers, so that another seed gives others."""
        return any(self._generation(name).temperature > 0 for name in self.engines)

    def ask(self, message: str) -> dict[str, str]:
        """Ask all variants and wait for their whole answers.

        Args:
            message: The user's message.

        Returns:
            Answers by name.
        """
        return {
            name: "".join(piece.text for piece in self._answer(name, message))
            for name in self.engines
        }

    def stream(self, message: str) -> Iterator[TokenEvent]:
        """Ask the only variant and give its answer piece by piece.

        Args:
            message: The user's message.

        Yields:
            Text and reasoning as they come.
        """
        (name,) = self.engines
        yield from self._answer(name, message)

    def reset(self) -> None:
        """Forget what was said."""
        self.turns, self.reasoning, self.id = {}, {}, token_hex(6)

    def vote(self, better: str) -> dict[str, Any]:
        """Take one of the last two answers as the better one.

        Args:
            better: The name of the one whose answer it is.

        Returns:
            A row to learn from: prompt, chosen and rejected, by whom they were, and in which
            conversation; what was thought before them has columns of its own, which are not
            learned.
        """
        (worse,) = self.engines.keys() - {better}
        *prompt, answer = self.turns[better]
        return {
            "prompt": prompt,
            "chosen": answer["content"],
            "rejected": self.turns[worse][-1]["content"],
            "better": better,
            "worse": worse,
            "better_hash": self.hashes.get(better, ""),
            "worse_hash": self.hashes.get(worse, ""),
            "conversation": self.id,
            **{
                f"{which}_reasoning": self.reasoning[name]
                for which, name in (("chosen", better), ("rejected", worse))
                if self.reasoning.get(name)
            },
        }

    def go_on_with(self, name: str) -> None:
        """Let all go on from one variant's answers, so that they are asked the same.

        Args:
            name: The name of the one whose answer it is.
        """
        self.turns = {each: list(self.turns[name]) for each in self.engines}

    def _generation(self, name: str) -> Generation:
        return self.own.get(name, self.generation)

    def _answer(self, name: str, message: str) -> Iterator[TokenEvent]:
        turns = self.turns.setdefault(name, [])
        asked = [*turns, {"role": "user", "content": message}]
        generation = self._generation(name)
        generation = replace(generation, seed=derive_seed(generation.seed, "turn", len(turns)))
        pieces: list[TokenEvent] = []
        try:
            for event in self.engines[name].stream([asked], generation):
                pieces.append(event)
                yield event
        except ModelError as error:
            if not turns:
                raise
            raise ModelError(
                error.message, hint=translated("/new begins a new conversation")
            ) from None
        said = "".join(piece.text for piece in pieces)
        self.turns[name] = [*asked, {"role": "assistant", "content": said}]
        self.reasoning[name] = "".join(piece.reasoning for piece in pieces)


def is_base_name(name: str) -> bool:
    """Tell a base from a variant: a bundled one, a Transformers model's folder or a GGUF file.

    Args:
        name: The name that the user gave.

    Returns:
        Whether it names a base.
    """
    folder = Path(name)
    is_model = (folder / "config.json").is_file() and not (folder / MANIFEST_FILE).is_file()
    return name.startswith("builtin:") or name.endswith(".gguf") or is_model
