"""Chat templates: which one a tokenizer has, the plain one it is given otherwise, their hashes."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from kamerton.core.files import hash_json

__all__ = [
    "PLAIN_TEMPLATE",
    "Tokenizer",
    "has_generation_markers",
    "has_own_template",
    "reads_argument",
    "template_hash",
    "template_of",
    "templates_of",
    "tokenizer_hash",
    "with_date",
    "writes_date",
]

PLAIN_TEMPLATE = """\
{%- if tools %}
    {{- '### Tools:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '### ' + message.role | capitalize + ':\\n' }}
    {%- if message.reasoning_content %}
        {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + (call.function or call) | tojson + '</tool_call>' }}
    {%- endfor %}
    {%- if message.role == 'assistant' %}
        {{- eos_token }}
    {%- endif %}
    {{- '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Assistant:\\n' }}
{%- endif %}
"""
"""The template supplied to tokenizers that have none; `</s>` stands for their EOS token:

    ### System:
    Answer briefly.

    ### User:
    Is the shop open?

    ### Assistant:
    Until six.</s>

    ### User:
    ...

Tool schemas stand first under `### Tools:`, one JSON object a line; a call is
`<tool_call>{...}</tool_call>`; a tool's result stands under `### Tool:`; reasoning stands in
`<think>` tags and is kept in history. BOS is not the template's business: the renderer adds it
where the tokenizer would.
"""


_DATE_CODES = tuple(
    f"%{code}" for code in ("-d", "-m", "-H", "-I", "-M", "-S", "-j", *"aAwdbBmyYHIpMSfjUWFDTeGuV")
)


class Tokenizer(Protocol):
    """What rendering uses of a Transformers tokenizer."""

    chat_template: Any
    bos_token: Any
    bos_token_id: Any
    eos_token: Any
    eos_token_id: Any
    pad_token_id: Any

    def __call__(self, text: Any, **options: Any) -> Any:
        """Turn text into `input_ids`."""
        ...

    def __len__(self) -> int:
        """Count all tokens, added ones included."""
        ...

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Turn ids into text."""
        ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Write messages as one text."""
        ...


def has_own_template(tokenizer: Tokenizer) -> bool:
    """Tell whether a tokenizer brings a chat template.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        False when `PLAIN_TEMPLATE` is used for it.
    """
    return bool(tokenizer.chat_template)


def template_of(tokenizer: Tokenizer, *, tools: bool = False) -> str:
    """Find the chat template that renders a tokenizer's chats.

    Args:
        tokenizer: A Transformers tokenizer.
        tools: Whether the chat offers tools; some tokenizers keep a second template for that.

    Returns:
        Jinja text: the tokenizer's own, or `PLAIN_TEMPLATE`.
    """
    named = templates_of(tokenizer)
    return named["tool_use"] if tools and "tool_use" in named else named["default"]


def templates_of(tokenizer: Tokenizer) -> dict[str, str]:
    """List the chat templates that render a tokenizer's chats.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        Jinja texts: "default", and "tool_use" where chats with tools have another.
    """
    own = tokenizer.chat_template
    if not own:
        return {"default": PLAIN_TEMPLATE}
    if isinstance(own, Mapping):
        named = dict(own)
    elif isinstance(own, Sequence) and not isinstance(own, str):
        named = {entry["name"]: entry["template"] for entry in own}
    else:
        return {"default": str(own)}
    used = {"default": str(named.get("default") or next(iter(named.values())))}
    return used | {"tool_use": str(named["tool_use"])} if "tool_use" in named else used


def reads_argument(tokenizer: Tokenizer, name: str) -> bool:
    """Tell whether a tokenizer's chat template mentions an argument.

    Args:
        tokenizer: A Transformers tokenizer.
        name: Name of the argument.

    Returns:
        False when the argument would change nothing.
    """
    templates = {template_of(tokenizer, tools=tools) for tools in (False, True)}
    return any(re.search(rf"\b{re.escape(name)}\b", template) for template in templates)


def writes_date(tokenizer: Tokenizer) -> bool:
    """Tell whether a tokenizer's chat template asks for today's date.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        True when rows differ from day to day unless the date is given.
    """
    return reads_argument(tokenizer, "strftime_now")


def with_date(template: str, day: str) -> str:
    """Let a template take another day for today.

    Transformers gives templates a function for the date and lets nobody give another one, so the
    template gets a macro of that name.

    Args:
        template: Jinja text.
        day: Such as "2026-11-30"; its time is midnight.

    Returns:
        The template as it is where it asks for no date.
    """
    return _date_macro(day) + template if "strftime_now" in template else template


@lru_cache
def _date_macro(day: str) -> str:
    then = datetime.fromisoformat(day)
    # A percent sign that is written twice must not begin another code.
    texts = {"%%": "\\x00", **{code: then.strftime(code) for code in _DATE_CODES}, "\\x00": "%"}
    filters = "".join(f"|replace('{code}','{text}')" for code, text in texts.items())
    return f"{{% macro strftime_now(f) %}}{{{{ f{filters} }}}}{{% endmacro %}}\n"


def has_generation_markers(template: str) -> bool:
    """Tell whether a template marks what the model itself writes.

    Args:
        template: Jinja text.

    Returns:
        True when it has a `{% generation %}` block.
    """
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def template_hash(tokenizer: Tokenizer) -> str:
    """Hash the chat template that renders a tokenizer's chats.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        SHA-256 in hex.
    """
    return hash_json(template_of(tokenizer))


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash what decides how text becomes ids: model, rules and special tokens, no template.

    Args:
        tokenizer: A Transformers tokenizer.

    Returns:
        SHA-256 in hex.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return hash_json([sorted(tokenizer.get_vocab().items()), special])
    return _hash_backend(backend.to_str(), tuple(special.items()))


# A server makes a renderer for every variant that it loads, all with the tokenizer of its base.
@lru_cache(maxsize=1)
def _hash_backend(text: str, special: tuple[tuple[str, str], ...]) -> str:
    content = json.loads(text)
    # Padding and truncation are how a tokenizer is used, not what it is.
    content.pop("padding", None)
    content.pop("truncation", None)
    return hash_json([content, dict(special)])
