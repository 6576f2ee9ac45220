"""What a model must say of itself once it leaves Kamerton: its chat template and its ends.

Kamerton finds both by trying the tokenizer out. Another program only reads them: from the
tokenizer's files, `config.json` and `generation_config.json`.
"""

import copy
import re
from typing import Any

from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.templates import has_own_template, template_of

__all__ = ["end_ids", "name_ends", "self_describing_tokenizer"]

_READS_EOS = re.compile(r"\beos_token\b")


def end_ids(renderer: Renderer) -> list[int]:
    """List the tokens that end an answer.

    Args:
        renderer: Of the variant.

    Returns:
        Ids; first the one that every trained answer ends with.
    """
    first = renderer.tokenizer.convert_tokens_to_ids(renderer.facts.end)
    return [first, *sorted(renderer.stop_ids - {first})]


def self_describing_tokenizer(renderer: Renderer) -> Any:
    """Give a tokenizer the chat template and the end that training used.

    Args:
        renderer: Of the variant.

    Returns:
        A copy to be saved; the same tokenizer where it says all of this already.
    """
    tokenizer = renderer.tokenizer
    template, end = template_of(tokenizer), renderer.facts.end
    # A tokenizer names one end. A template that writes its EOS must go on writing the same text.
    renames = tokenizer.eos_token != end and not _READS_EOS.search(template)
    if has_own_template(tokenizer) and not renames:
        return tokenizer
    described = copy.deepcopy(tokenizer)
    if not has_own_template(tokenizer):
        described.chat_template = template
    if renames:
        described.eos_token = end
    return described


def name_ends(model: Any, renderer: Renderer) -> None:
    """Let a model's two configurations name every end of an answer, and keep those they name.

    Args:
        model: A Transformers causal language model that is about to be saved.
        renderer: Of the variant.
    """
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        if config is None:
            continue
        named = getattr(config, "eos_token_id", None)
        before = [] if named is None else [named] if isinstance(named, int) else list(named)
        ids = list(dict.fromkeys([*end_ids(renderer), *before]))
        config.eos_token_id = ids if len(ids) > 1 else ids[0]
