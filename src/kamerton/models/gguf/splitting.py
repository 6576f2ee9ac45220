"""The ways byte-level tokenizers split a text before BPE, and llama.cpp's names for them.

A GGUF file holds only the name. Where a text is split otherwise, its tokens are others than those
that the model learned from: numbers first of all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GPT2", "restore_splitting", "split_name"]

_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_BY_THREE = _WORDS + r"\p{N}{1,3}" + _REST
_BY_ONE = _WORDS + r"\p{N}" + _REST

GPT2 = "gpt-2"
"""The splitting of GPT-2, which is that of the byte-level step itself."""
_DIGITS = "smollm"
"""GPT-2's, after every digit was set apart."""

_PATTERNS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "glm4", "chatglm-bpe"), _BY_THREE),
    **dict.fromkeys(("qwen2", "stablelm2", "hunyuan"), _BY_ONE),
}
_LIKE_DIGITS = {
    _DIGITS, "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b",
}  # fmt: skip
_LIKE_GPT2 = {
    GPT2, "default", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "phi-2",
    "roberta-bpe",
}  # fmt: skip


def split_name(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Find what llama.cpp calls a splitting.

    Args:
        steps: The steps before BPE, as `tokenizer.json` describes them.

    Returns:
        Its name; None where none of those known here splits so.
    """
    patterns = [step["pattern"].get("Regex", "") for step in steps if step["type"] == "Split"]
    own = any(step["type"] == "ByteLevel" and step.get("use_regex") for step in steps)
    digits = [step["individual_digits"] for step in steps if step["type"] == "Digits"]
    if own and not patterns:
        return {(): GPT2, (True,): _DIGITS}.get(tuple(digits))
    if own and patterns == [r"\p{N}"] and not digits:
        return _DIGITS
    if own or digits or len(patterns) != 1:
        return None
    return next((name for name, known in _PATTERNS.items() if [known] == patterns), None)


def restore_splitting(tokenizer: Any, name: str) -> None:
    """Let a tokenizer that was read from a GGUF file split texts as the file says.

    Args:
        tokenizer: The tokenizer as Transformers read it; only byte-level ones are changed.
        name: The splitting's name in the file.

    Raises:
        ValueError: If neither Transformers nor this module knows that name.
    """
    from tokenizers import Regex, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        # Metaspace, or Transformers has restored it.
        return
    if name in _LIKE_GPT2:
        return
    pattern = r"\p{N}" if name in _LIKE_DIGITS else _PATTERNS.get(name)
    if pattern is None:
        raise ValueError(f"its tokenizer splits texts as '{name}', which is not known here")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in _LIKE_DIGITS),
        ]
    )
