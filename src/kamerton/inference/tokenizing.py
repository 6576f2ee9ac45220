"""Prompts as token ids, and what clients ask about tokenizers."""

from kamerton.core.errors import ModelError
from kamerton.core.requests import AnswerRequest
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.templates import template_of
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.prompting.prompt import Prompt

__all__ = ["prompt_ids", "reply_of"]


def prompt_ids(
    request: AnswerRequest,
    renderer: Renderer,
    prompt: Prompt,
    base: Base,
    *,
    add_special_tokens: bool = True,
) -> list[int]:
    """Turn what a request goes on from into token ids.

    Args:
        request: A chat, a text, or token ids, which stay as they are.
        renderer: Of the variant.
        prompt: Of the variant; stands before chats.
        base: The base.
        add_special_tokens: Whether a text gets the tokens that the tokenizer adds.

    Returns:
        The ids.

    Raises:
        KamertonError: If the chat cannot be rendered or an id is none of the base's.
    """
    if request.chat is not None:
        ids = list(renderer.prompt_ids(prompt.apply(request.chat), request.tools))
        # A grammar begins with the answer itself: what comes before it is written here.
        return ids if request.grammar is None else ids + renderer.opening_ids()
    if isinstance(request.prompt, str):
        encoded = renderer.tokenizer(request.prompt, add_special_tokens=add_special_tokens)
        return list(encoded["input_ids"])
    size = base.identity.vocab_size
    if strange := [index for index in request.prompt if not 0 <= index < size]:
        raise ModelError(f"prompt: token ids are from 0 to {size - 1}, got {strange[0]}")
    return list(request.prompt)


def reply_of(
    question: TokenizerRequest, renderer: Renderer, prompt: Prompt, base: Base
) -> TokenizerReply:
    """Answer a question about a tokenizer.

    Args:
        question: The question.
        renderer: Of the variant.
        prompt: Of the variant.
        base: The base.

    Returns:
        The reply.

    Raises:
        KamertonError: If the chat cannot be rendered or an id is none of the base's.
    """
    tokenizer, asked = renderer.tokenizer, question.asked
    if question.kind == "info":
        info = {
            "tokenizer_class": type(tokenizer).__name__,
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
            "pad_token": tokenizer.pad_token,
            "unk_token": tokenizer.unk_token,
            "chat_template": template_of(tokenizer),
            "vocab_size": base.identity.vocab_size,
        }
        return TokenizerReply(asked.id, info=info, max_tokens=room_of(base))
    ids = prompt_ids(asked, renderer, prompt, base, add_special_tokens=question.add_special_tokens)
    if question.kind == "detokenize":
        return TokenizerReply(asked.id, text=tokenizer.decode(ids))
    texts = tuple(tokenizer.decode([token]) for token in ids)
    return TokenizerReply(asked.id, tuple(ids), texts, max_tokens=room_of(base))
