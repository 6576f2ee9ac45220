"""What a model must say of itself once it leaves Kamerton: chat template, ends, how it answers.

Kamerton finds the first two by trying the tokenizer out. Another program only reads them: from the
tokenizer's files, `config.json` and `generation_config.json`.
"""

import copy
import json
import re
from typing import Any

from kamerton.core.generation import GenerationSettings
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.templates import has_own_template, template_of, templates_of

__all__ = ["end_ids", "name_ends", "name_generation", "self_describing_tokenizer"]

_OTHER_CHOICES = (
    "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty",
    "no_repeat_ngram_size", "num_beams",
)  # fmt: skip
"""What else a base may say of the choice of tokens, which Kamerton's engine does not know."""
_READS_EOS = re.compile(r"\beos_token\b")


def end_ids(renderer: Renderer) -> list[int]:
    """List the tokens that end an answer.

    Args:
        renderer: Renderer of the variant.

    Returns:
        Ids; first the one that every trained answer ends with.
    """
    first = renderer.tokenizer.convert_tokens_to_ids(renderer.facts.end)
    return [first, *sorted(renderer.stop_ids - {first})]


def self_describing_tokenizer(renderer: Renderer) -> Any:
    """Give a tokenizer the chat template, with its BOS and arguments, and the end of training.

    Args:
        renderer: Renderer of the variant.

    Returns:
        A copy to be saved; the same tokenizer where it says all of this already.
    """
    tokenizer = renderer.tokenizer
    template, end = template_of(tokenizer), renderer.facts.end
    # A tokenizer names one end. A template that writes its EOS must go on writing the same text.
    renames = tokenizer.eos_token != end and not _READS_EOS.search(template)
    before = _before_template(renderer)
    if has_own_template(tokenizer) and not renames and not before:
        return tokenizer
    described = copy.deepcopy(tokenizer)
    named = {name: before + text for name, text in templates_of(tokenizer).items()}
    described.chat_template = named if len(named) > 1 else named["default"]
    if renames:
        described.eos_token = end
    return described


def _before_template(renderer: Renderer) -> str:
    """Write what a template must begin with to write by itself what training read.

    Programs that serve a chat add no BOS to what the template wrote, and give it no arguments
    unless they are asked to.
    """
    settings = renderer.settings
    given: dict[str, Any] = dict(settings.template_arguments)
    for name in ("enable_thinking", "thinking"):
        if _changes_prompts(renderer, name, settings.thinking):
            given[name] = settings.thinking
    defaults = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {json.dumps(value)} %}}{{% endif %}}"
        for name, value in given.items()
    )
    bos = "{{ bos_token }}" if renderer.facts.bos == "tokenizer" else ""
    # A block would swallow a line break that the template begins with; a text does not.
    return defaults + (bos or "{{ '' }}") if defaults or bos else ""


def _changes_prompts(renderer: Renderer, name: str, value: bool) -> bool:
    """Whether a template asks otherwise when it is given an argument."""
    tokenizer, asked = renderer.tokenizer, [{"role": "user", "content": "Question?"}]
    options = {"add_generation_prompt": True, "tokenize": False}
    template = template_of(tokenizer)
    alone, told = (
        tokenizer.apply_chat_template(asked, chat_template=template, **options, **extra)
        for extra in ({}, {name: value})
    )
    return bool(alone != told)


def name_ends(model: Any, renderer: Renderer) -> None:
    """Let a model's two configurations name every end of an answer, and keep those they name.

    Args:
        model: A Transformers causal language model that is about to be saved.
        renderer: Renderer of the variant.
    """
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        if config is None:
            continue
        named = getattr(config, "eos_token_id", None)
        before = [] if named is None else [named] if isinstance(named, int) else list(named)
        ids = list(dict.fromkeys([*end_ids(renderer), *before]))
        config.eos_token_id = ids if len(ids) > 1 else ids[0]


def name_generation(model: Any, settings: GenerationSettings) -> None:
    """Let a model's `generation_config` answer as the variant does, and not as its base did.

    Stop texts are left out: Transformers generates with them only where it is given a tokenizer.

    Args:
        model: A Transformers causal language model that is about to be saved.
        settings: The variant's generation defaults.
    """
    config = model.generation_config
    for name in _OTHER_CHOICES:
        setattr(config, name, None)
    sampled = settings.temperature > 0
    config.do_sample = sampled
    config.temperature = settings.temperature if sampled else None
    config.top_p = settings.top_p if sampled else None
    # Left out it would be 50 in Transformers.
    config.top_k = settings.top_k if sampled else None
    config.max_length, config.max_new_tokens = None, settings.max_new_tokens
