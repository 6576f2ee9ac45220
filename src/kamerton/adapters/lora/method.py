"""The record of the LoRA family."""

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.combine import combine
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    LoraSettings,
    attach=lambda base, settings, of: attach_lora(base, settings, of.seed),
    load=load_lora,
    combine=dict.fromkeys(("cat", "sum", "average", "ties", "dare"), combine),
)
