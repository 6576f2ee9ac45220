"""Answers that follow a JSON schema, a regular expression or a list of choices.

llguidance says before every token which ones may follow; the others get no probability.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kamerton.core.errors import MissingExtraError, ModelError
from kamerton.core.requests import Grammar
from kamerton.data.rendering.renderer import Renderer

__all__ = ["GrammarCompiler", "GrammarState"]

_WHITE_SPACE = r"\n?[ \t]{0,20}"
"""Between the parts of JSON: without a bound, a small model may write spaces for ever."""


class GrammarState:
    """How far one answer has got in its grammar.

    Args:
        matcher: llguidance's.
        vocab_size: V, the number of logits.
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((1, (vocab_size + 31) // 32), dtype=np.int32)
        self._vocab_size = vocab_size

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow but the end."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str:
        """Why the grammar could not be followed any further; empty where it was."""
        return str(self._matcher.get_error())

    def add(self, token: int) -> None:
        """Take a token that was chosen.

        Args:
            token: Its id.
        """
        self._matcher.consume_token(token)

    def apply(self, logits: Tensor) -> Tensor:
        """Leave only the tokens that may follow.

        Args:
            logits: [V], not changed.

        Returns:
            [V], minus infinity for all others.
        """
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        allowed = torch.from_numpy(bits[: self._vocab_size].astype(np.bool_))
        return logits.masked_fill(~allowed.to(logits.device), float("-inf"))


class GrammarCompiler:
    """Makes grammars for the tokenizer of a base.

    Args:
        vocab_size: V, the number of logits.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._tokenizers: dict[frozenset[int], Any] = {}

    def compile(self, grammar: Grammar, renderer: Renderer) -> GrammarState:
        """Begin an answer.

        Args:
            grammar: What it must follow.
            renderer: Of the variant.

        Returns:
            The state before the first token.

        Raises:
            ModelError: If the grammar is wrong or asks for what cannot be done.
            MissingExtraError: If the extra "grammar" is not installed.
        """
        try:
            from llguidance import LLMatcher
        except ImportError:
            purpose = "answers that follow a schema, a regular expression or choices"
            raise MissingExtraError("llguidance", "grammar", purpose) from None
        try:
            text = _text_of(LLMatcher, grammar)
        except ValueError as error:
            raise ModelError(f"{grammar.kind}: {error}") from None
        matcher = LLMatcher(self._tokenizer(renderer), text, log_level=0)
        if matcher.is_error():
            raise ModelError(f"{grammar.kind}: {matcher.get_error()}")
        return GrammarState(matcher, self._vocab_size)

    def _tokenizer(self, renderer: Renderer) -> Any:
        """Make llguidance's view of a tokenizer: a second of work for a large vocabulary."""
        from llguidance.hf import from_tokenizer

        ends = renderer.stop_ids
        if ends not in self._tokenizers:
            try:
                self._tokenizers[ends] = from_tokenizer(
                    renderer.tokenizer, n_vocab=self._vocab_size, eos_token=sorted(ends)
                )
            except Exception as error:
                # It names no type of its own for a tokenizer that it cannot read.
                raise ModelError(f"llguidance cannot read this tokenizer: {error}") from None
        return self._tokenizers[ends]


def _text_of(matcher: Any, grammar: Grammar) -> str:
    if grammar.kind == "regex":
        return str(matcher.grammar_from_regex(grammar.text))
    if grammar.kind == "choice":
        choices: Sequence[str] = json.loads(grammar.text)
        either = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
        return str(matcher.grammar_from_lark(f"start: {either}"))
    bounds = {"whitespace_flexible": True, "whitespace_pattern": _WHITE_SPACE}
    return str(matcher.grammar_from_json_schema(grammar.text, overrides=bounds))
