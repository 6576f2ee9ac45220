"""A tokenizer in GGUF: byte-level BPE, and BPE with byte fallback as SentencePiece makes it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kamerton.core.errors import ModelError
from kamerton.data.rendering.templates import template_of
from kamerton.models.gguf.splitting import GPT2, split_name

__all__ = ["add_tokenizer", "splits_otherwise"]

_GENERATION = re.compile(r"{%(-?)\s*(?:end)?generation\s*(-?)%}")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTES = 1, 2, 3, 4, 5, 6


def add_tokenizer(writer: Any, tokenizer: Any, num_rows: int, end: str = "") -> None:
    """Add a tokenizer and its chat template to a file.

    Args:
        writer: A `gguf.GGUFWriter`.
        tokenizer: A fast tokenizer of Transformers.
        num_rows: The embedding's rows: ids without a token are written as unused.
        end: The text of the token that ends an answer, where it may be another than EOS.

    Raises:
        ModelError: If llama.cpp has no such kind of tokenizer.
    """
    described = _described(tokenizer)
    tokens, types = _tokens(described, num_rows)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [pair if isinstance(pair, str) else " ".join(pair)
              for pair in described["model"]["merges"]]  # fmt: skip
    if _is_byte_level(described):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split_name(_parts(described)) or GPT2)
        writer.add_token_merges(merges)
    else:
        ranks: dict[str, int] = {}
        for rank, merge in enumerate(merges):
            ranks.setdefault(merge.replace(" ", ""), rank)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        # SentencePiece joins what makes the token of the highest score; characters need none.
        writer.add_token_scores([-float(ranks.get(token, len(merges))) for token in tokens])
        writer.add_add_space_prefix(_begins_with_space(described))
    _add_special(writer, tokenizer)
    # llama.cpp stops at EOS and at this one.
    if end and end != tokenizer.eos_token:
        writer.add_eot_token_id(tokenizer.convert_tokens_to_ids(end))
    template = template_of(tokenizer)
    # llama.cpp does not know these marks; comments trim the spaces beside them as they did.
    writer.add_chat_template(_GENERATION.sub(r"{#\1 \2#}", template))


def _begins_with_space(described: Mapping[str, Any]) -> bool:
    """Whether a text is read as if a space stood before it: by its normaliser or its splitting."""
    return '"Prepend"' in json.dumps(described["normalizer"]) or any(
        part["type"] == "Metaspace" and part.get("prepend_scheme") != "never"
        for part in _parts(described)
    )


def splits_otherwise(tokenizer: Any) -> bool:
    """Tell whether llama.cpp splits texts in another way before it joins bytes to tokens.

    Args:
        tokenizer: A fast tokenizer of Transformers.

    Returns:
        True where its way is none of those known here: some texts may become other tokens there.
    """
    described = _described(tokenizer)
    return _is_byte_level(described) and split_name(_parts(described)) is None


def _described(tokenizer: Any) -> Mapping[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described: Mapping[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    model = described.get("model") or {}
    if model.get("type") != "BPE" or not (_is_byte_level(described) or model["byte_fallback"]):
        raise ModelError(
            f"the tokenizer cannot be written as GGUF: it is {model.get('type') or 'not fast'}, "
            "and known here are byte-level BPE and BPE with byte fallback",
            hint="export with --format merged and convert that with llama.cpp's own script",
        )
    return described


def _parts(described: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of the splitting before BPE."""
    splitting = described.get("pre_tokenizer") or {}
    return list(splitting.get("pretokenizers", [splitting] if splitting else []))


def _is_byte_level(described: Mapping[str, Any]) -> bool:
    return any(part["type"] == "ByteLevel" for part in _parts(described))


def _tokens(described: Mapping[str, Any], num_rows: int) -> tuple[list[str], list[int]]:
    """Every row's token with its type."""
    model = described["model"]
    by_id = {number: (token, _NORMAL) for token, number in model["vocab"].items()}
    if not _is_byte_level(described):
        bytes_too = {n: (t, _BYTES) for n, (t, _) in by_id.items() if _BYTE.fullmatch(t)}
        by_id |= bytes_too
    for added in described["added_tokens"]:
        by_id[added["id"]] = (added["content"], _CONTROL if added["special"] else _USER)
    unknown = model["vocab"].get(model["unk_token"])
    if unknown is not None:
        by_id[unknown] = (model["unk_token"], _UNKNOWN)
    rows = [by_id.get(number, (f"[unused {number}]", _UNUSED)) for number in range(num_rows)]
    return [token for token, _ in rows], [kind for _, kind in rows]


def _add_special(writer: Any, tokenizer: Any) -> None:
    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{name}_token_id", None)
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    first = tokenizer("a")["input_ids"][0]
    writer.add_add_bos_token(first == tokenizer.bos_token_id)
    writer.add_add_eos_token(False)
