"""Answers that follow a JSON schema, a regular expression or a list of choices.

llguidance says before every token which ones may follow; the others get no probability.
"""

import json
import re
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
        self._fill()

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow but the end."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str:
        """Why the grammar could not be followed any further; empty where it was."""
        return str(self._matcher.get_error()).partition("\n")[0]

    def add(self, token: int) -> None:
        """Take a token that was chosen.

        Args:
            token: Its id.
        """
        self._matcher.consume_token(token)
        if not self.is_over:
            self._fill()

    def apply(self, logits: Tensor) -> Tensor:
        """Leave only the tokens that may follow.

        Args:
            logits: [V], not changed.

        Returns:
            [V], minus infinity for all others.
        """
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        allowed = torch.from_numpy(bits[: self._vocab_size].astype(np.bool_))
        return logits.masked_fill(~allowed.to(logits.device), float("-inf"))

    def _fill(self) -> None:
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask)


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
            from llguidance import LLMatcher, LLParserLimits
        except ImportError:
            purpose = "answers that follow a schema, a regular expression or choices"
            raise MissingExtraError("llguidance", "grammar", purpose) from None
        try:
            text = _text_of(LLMatcher, grammar)
        except ValueError as error:
            raise ModelError(f"{grammar.kind}: {error}") from None
        # A quarter of what is usual: everybody waits while one grammar is worked on.
        limits = LLParserLimits(
            initial_lexer_fuel=200_000, step_lexer_fuel=50_000, verbose_errors=False
        )
        matcher = LLMatcher(self._tokenizer(renderer), text, log_level=0, limits=limits)
        if matcher.is_error():
            raise ModelError(f"{grammar.kind}: {matcher.get_error()}")
        state = GrammarState(matcher, self._vocab_size)
        if state.is_over:
            problem = state.error or "it allows no answer"
            raise ModelError(f"{grammar.kind} cannot be followed: {problem}")
        return state

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
        return str(matcher.grammar_from_regex(_with_plain_digits(grammar.text)))
    if grammar.kind == "choice":
        choices: Sequence[str] = json.loads(grammar.text)
        either = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
        return str(matcher.grammar_from_lark(f"start: {either}"))
    bounds = {"whitespace_flexible": True, "whitespace_pattern": _WHITE_SPACE}
    return str(matcher.grammar_from_json_schema(grammar.text, overrides=bounds))


def _with_plain_digits(regex: str) -> str:
    """Let a digit be one of 0 to 9, as in JSON schemas: the engine would take any script's."""
    inside = False

    def plain(found: re.Match[str]) -> str:
        nonlocal inside
        if found[0] in "[]":
            inside = found[0] == "["
        return ("0-9" if inside else "[0-9]") if found[0] == r"\d" else found[0]

    return re.sub(r"\\.|\[|\]", plain, regex, flags=re.DOTALL)
