"""The record of the LoRA family."""

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.combine import combine
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.method import Method, Rate

__all__ = ["METHOD"]

_ALPHA = 32.0
"""The strength of the LoRA that the rule of rates is for, whatever its rank."""


def _rate(settings: LoraSettings) -> Rate:
    """Give the factor of a form of LoRA on plain LoRA's rate.

    The rate falls with the square root of how much more the product of both factors counts (rsLoRA:
    the fourth root of the rank), and of how much faster one of them learns (LoRA+).
    """
    strength = settings.alpha / _ALPHA * (settings.rank**0.5 if settings.rank_stabilised else 1.0)
    return Rate(float((strength * settings.lora_plus_ratio) ** -0.5), "lora")


METHOD = Method(
    LoraSettings,
    attach=lambda base, settings, of: attach_lora(base, settings, of.seed),
    load=load_lora,
    rate=_rate,
    combine=dict.fromkeys(("cat", "sum", "average", "ties", "dare"), combine),
)
