"""Models in other engines: what is there, what is loaded there, and how it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from kamerton.core.errors import ModelError
from kamerton.core.events import Notice
from kamerton.core.requests import ServedModel
from kamerton.prompting.prompt import Prompt
from kamerton.serving.replicas import Replica
from kamerton.serving.upstream import UpstreamError
from kamerton.wire.upstream_answers import ModelCard, read_cards

__all__ = ["UpstreamModel", "cannot_list", "list_models", "load_lora", "other_templates"]

_LISTING_S = 5.0
"""Seconds in which an engine must say what it serves."""


@dataclass(frozen=True, slots=True)
class UpstreamModel:
    """A name that clients may ask for, and what is asked of the engines then.

    Attributes:
        served: What clients see.
        name: Name of the model in the engines.
        prompt: Put before every chat here.
        base: Name of the base in the engines, where a LoRA is loaded over it there.
        place: Folder of that LoRA; empty where nothing is loaded.
        chat_template: What the variant learned with; empty where that is not known.
        template_arguments: What the chat template there is given.
        is_required: Whether the server may not start without it.
    """

    served: ServedModel
    name: str
    prompt: Prompt = field(default_factory=Prompt)
    base: str = ""
    place: str = ""
    chat_template: str = ""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    is_required: bool = True


async def list_models(replica: Replica) -> list[ModelCard]:
    """Ask an engine what it serves, and note it.

    Args:
        replica: The engine.

    Returns:
        Its models.

    Raises:
        UpstreamError: If it does not say.
    """
    body = await replica.upstream.get("/v1/models", timeout_s=_LISTING_S)
    try:
        cards = read_cards(body)
    except ValueError as error:
        raise UpstreamError(502, str(error)) from None
    replica.take(cards)
    return cards


async def load_lora(replica: Replica, model: UpstreamModel) -> None:
    """Load the LoRA of a model in an engine that has its base, unless it is there.

    Args:
        replica: The engine.
        model: Any; nothing happens where it has no LoRA.

    Raises:
        ModelError: If it cannot be loaded.
    """
    if not model.place or model.base not in replica.models or model.name in replica.models:
        return
    body = {"lora_name": model.name, "lora_path": model.place}
    try:
        await replica.upstream.post("/v1/load_lora_adapter", body)
    except UpstreamError as error:
        raise _cannot_load(replica, model, error) from None
    replica.models = {*replica.models, model.name}


async def other_templates(
    replicas: Sequence[Replica], models: Sequence[UpstreamModel]
) -> list[Notice]:
    """Find variants that learned with another chat template than an engine's.

    Args:
        replicas: The engines; those that do not tell their templates are trusted.
        models: What is served.

    Returns:
        A warning for each variant.
    """
    notices = []
    found: dict[tuple[int, str], str] = {}
    for model in models:
        for number, replica in enumerate(replicas):
            base = model.base or model.name
            if not model.chat_template or base not in replica.models:
                continue
            if (number, base) not in found:
                found[number, base] = await _template_of(replica, base)
            if found[number, base] not in ("", model.chat_template):
                said = (
                    f"{model.served.name} learned with another chat template than the one that "
                    f"{replica.upstream.url} writes its chats with: its answers may be worse"
                )
                notices.append(Notice(said, "warning"))
    return notices


async def _template_of(replica: Replica, base: str) -> str:
    """Ask for a chat template; empty where the engine does not tell it."""
    path = f"/tokenizer_info?model={quote(base, safe='')}"
    try:
        body = await replica.upstream.get(path, timeout_s=_LISTING_S)
    except UpstreamError:
        return ""
    template = body.get("chat_template") if isinstance(body, Mapping) else None
    return template if isinstance(template, str) else ""


def cannot_list(replica: Replica, error: UpstreamError) -> ModelError:
    """Say why an engine cannot be used.

    Args:
        replica: The engine.
        error: What it did when it was asked for its models.

    Returns:
        The error for the user.
    """
    url = replica.upstream.url
    if error.status in (401, 403):
        return ModelError(
            f"the engine at {url} refuses the key",
            hint="set KAMERTON_ENGINE_KEY or --engine-key to a key of that engine",
        )
    if error.status == 0:
        return ModelError(
            f"{url}: {error.message}", hint="start the engine first, and look at the port"
        )
    return ModelError(
        f"{url} is no engine that speaks OpenAI's API: {error.message}",
        hint="give the address that stands before /v1, such as http://127.0.0.1:8000",
    )


def _cannot_load(replica: Replica, model: UpstreamModel, error: UpstreamError) -> ModelError:
    hint = "the engine must be able to read the variant's folder"
    if error.status in (404, 405):
        hint = "vLLM needs --enable-lora and the variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    return ModelError(
        f"{replica.upstream.url} cannot load the LoRA of '{model.served.name}': {error.message}",
        hint=hint,
    )
