"""What `kamerton serve --engine URL` offers: models of other engines and the project's variants.

Torch stays out of here: nothing is computed on this side.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.events import Notice, Sink
from kamerton.core.generation import GenerationSettings
from kamerton.core.requests import ServedModel
from kamerton.core.settings import suggestion
from kamerton.prompting.prompt import Prompt
from kamerton.serving.upstream import Upstream
from kamerton.serving.upstream_engine import UpstreamEngine
from kamerton.serving.upstream_models import UpstreamModel
from kamerton.store.variants import Variant, find_variant, list_variants
from kamerton.wire.upstream_answers import ModelCard
from kamerton.wire.upstream_requests import LEFT_TO_ENGINE

__all__ = ["Offering", "address_of", "open_upstream"]

_CONFIG_FILE = "adapter_config.json"
_HASH_SHOWN = 12


def open_upstream(
    urls: Sequence[str],
    keys: Sequence[str],
    offering: "Offering",
    *,
    timeout_s: float,
    limit_open: int | None = None,
) -> UpstreamEngine:
    """Make the engine of a gateway that stands before other engines.

    Args:
        urls: Addresses of engines, at least one.
        keys: None, one for all, or one for each.
        offering: Decides what is served.
        timeout_s: Seconds in which nothing may come from an engine before it is given up.
        limit_open: Most requests that each engine has at once; None sets no limit.

    Returns:
        The engine; nothing has been asked yet.

    Raises:
        SettingsError: If an address is none, or the number of keys is another.
    """
    if len(keys) not in (0, 1, len(urls)):
        raise SettingsError(
            f"--engine-key must be given once, or once for each of {len(urls)} engines, "
            f"got {len(keys)} keys"
        )
    each = keys if len(keys) == len(urls) else [*keys, ""][:1] * len(urls)
    upstreams = [
        Upstream(address_of(url), key, read_s=timeout_s)
        for url, key in zip(urls, each, strict=True)
    ]
    if len({upstream.url for upstream in upstreams}) < len(upstreams):
        raise SettingsError("--engine names the same address twice")
    return UpstreamEngine(upstreams, offering.offer, limit_open=limit_open)


def address_of(url: str) -> str:
    """Read the address of an engine.

    Args:
        url: As the user gave it, with or without `/v1`.

    Returns:
        Without `/v1` and without a slash at the end.

    Raises:
        SettingsError: If it is no address, or holds a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"--engine must be an address such as http://127.0.0.1:8000, got {url!r}"
        )
    if parts.username or parts.query or parts.fragment:
        raise SettingsError(
            "--engine must be an address without user, password, '?' and '#'",
            hint="set KAMERTON_ENGINE_KEY to the key of the engine",
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


@dataclass(frozen=True)
class Offering:
    """Decides what a gateway before other engines serves.

    Attributes:
        folder: The project's variants.
        names: Variants and models of the engines; all that can be served when empty.
        base: Name in the engines of the base of the variants; empty for finding it.
        tell: Receives notices.
    """

    folder: Path
    names: tuple[str, ...] = ()
    base: str = ""
    tell: Sink = field(default=lambda event: None)

    def offer(self, cards: Sequence[ModelCard]) -> list[UpstreamModel]:
        """Decide.

        Args:
            cards: What the engines list, each model as often as engines have it.

        Returns:
            The variants, then the engines' own models.

        Raises:
            VariantError: If a name is unknown, a variant cannot be served there, or nothing is.
        """
        listed: dict[str, ModelCard] = {}
        for card in cards:
            listed.setdefault(card.name, card)
        if self.base and self.base not in listed:
            raise VariantError(
                f"no engine has the base '{self.base}'; {_those_of(listed)}",
                hint="--base names the model of the engine that the variants were made for",
            )
        own = [_own_model(card) for card in listed.values() if card.name in (self.names or listed)]
        found = [*self._variants(listed), *own]
        if not found:
            raise VariantError("the engines list no model, so there is nothing to serve")
        return found

    def _variants(self, listed: Mapping[str, ModelCard]) -> list[UpstreamModel]:
        if self.names:
            wanted = [name for name in dict.fromkeys(self.names) if name not in listed]
            return [self._model(self._find(name, listed), listed) for name in wanted]
        models = []
        found, damaged = list_variants(self.folder)
        for problem in damaged:
            self.tell(Notice(f"not served: {problem}", "warning"))
        for variant in found:
            there = listed.get(variant.folder.name)
            if there is not None and there.artefact == variant.manifest.content_hash:
                continue
            try:
                models.append(self._model(variant, listed))
            except VariantError as error:
                self.tell(Notice(f"not served: {error.message}", "warning"))
        return models

    def _find(self, name: str, listed: Mapping[str, ModelCard]) -> Variant:
        try:
            return find_variant(name, self.folder)
        except VariantError as error:
            raise VariantError(
                f"'{name}' is neither a model of the engine nor a variant in {self.folder}"
                f"{suggestion(name, list(listed))}",
                hint=error.hint,
            ) from None

    def _model(self, variant: Variant, listed: Mapping[str, ModelCard]) -> UpstreamModel:
        """Say how a variant is asked for, or why it cannot be."""
        manifest, name = variant.manifest, variant.folder.resolve().name
        if name in listed:
            raise VariantError(
                f"{name}: the engine has a model of this name, which is served instead"
            )
        _ensure_served_elsewhere(variant, name)
        base = self._base_of(variant, name, listed)
        if manifest.render.get("date"):
            said = f"{name}: the engine writes today's date into chats, not render.date"
            self.tell(Notice(said, "warning"))
        served = ServedModel(
            name,
            manifest.method if manifest.files else "prompt only",
            manifest.content_hash,
            base.name,
            created=int(datetime.fromisoformat(manifest.created).timestamp()),
            defaults=GenerationSettings.model_validate(manifest.generation).generation(),
            place=str(variant.folder.resolve()),
        )
        # The hash in its name keeps older weights of the same name from answering.
        there = f"{name}-{manifest.content_hash[:_HASH_SHOWN]}" if manifest.files else base.name
        return UpstreamModel(
            served,
            there,
            Prompt.model_validate(manifest.prompt),
            base.name if manifest.files else "",
            served.place if manifest.files else "",
            manifest.base.templates.get("default", ""),
            _template_arguments(manifest.render),
            is_required=bool(self.names),
        )

    def _base_of(self, variant: Variant, name: str, listed: Mapping[str, ModelCard]) -> ModelCard:
        """Find a variant's base among the engines' models."""
        record = variant.manifest.base
        bases = [card for card in listed.values() if not card.parent]
        if self.base:
            found = [listed[self.base]]
        else:
            found = [card for card in bases if card.artefact == record.weight_hash]
            found = found or [card for card in bases if _is_named_like(card, record.id)]
        if not found:
            raise VariantError(
                f"{name}: its base {record.id} is not among the engine's models; "
                f"{_those_of(listed)}",
                hint="--base NAME says which of these it is",
            )
        if found[0].artefact not in ("", record.weight_hash):
            raise VariantError(
                f"{name} was made for {record.id} with other weights than "
                f"'{found[0].name}' has in the engine"
            )
        return found[0]


def _ensure_served_elsewhere(variant: Variant, name: str) -> None:
    """Refuse a variant that only Kamerton's own engine can compute."""
    manifest = variant.manifest
    if manifest.objective == "reward":
        raise VariantError(f"{name} is a reward model, which writes no answers")
    if not manifest.files:
        return
    reason = ""
    if manifest.method != "lora":
        reason = f"its adapter is a {manifest.method}"
    elif manifest.new_tokens:
        reason = "it has tokens of its own"
    else:
        config = _config_of(variant)
        if config.get("use_dora"):
            reason = "it is a DoRA"
        elif config.get("modules_to_save") or config.get("trainable_token_indices"):
            reason = "it has whole trained layers beside its LoRA"
    if reason:
        raise VariantError(
            f"{name} cannot be served by another engine: {reason}, "
            "and other engines load plain LoRAs only",
            hint="kamerton serve without --engine serves it",
        )


def _config_of(variant: Variant) -> Mapping[str, Any]:
    try:
        found = json.loads((variant.folder / _CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise VariantError(f"{variant.folder} has no {_CONFIG_FILE}, which the engine would read")
    return found


def _template_arguments(render: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the engine's chat template is to be given, as the variant learned with it."""
    thinking = bool(render.get("thinking", False))
    given = render.get("template_arguments") or {}
    return {**given, "enable_thinking": thinking, "thinking": thinking}


def _own_model(card: ModelCard) -> UpstreamModel:
    kind = card.kind or ("adapter" if card.parent else "base")
    served = ServedModel(
        card.name,
        kind,
        card.artefact,
        card.parent or card.name,
        created=card.created,
        defaults=LEFT_TO_ENGINE,
    )
    return UpstreamModel(served, card.name)


def _is_named_like(card: ModelCard, base: str) -> bool:
    """Whether a model has the name of a base, whatever folders stand before either."""
    plain = base.rstrip("/").rpartition("/")[2].casefold()
    names = (card.name, card.root)
    return any(name.rstrip("/").rpartition("/")[2].casefold() == plain for name in names if name)


def _those_of(listed: Mapping[str, ModelCard]) -> str:
    return f"it has: {', '.join(listed) or 'none'}"
