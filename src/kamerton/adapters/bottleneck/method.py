"""The record of bottlenecks; a loaded one may be a stack of several."""

from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings, attach_bottleneck
from kamerton.adapters.bottleneck.combine import stack
from kamerton.adapters.bottleneck.stack import load_bottlenecks
from kamerton.adapters.combine import average
from kamerton.adapters.method import Method, Rate

__all__ = ["METHOD"]

METHOD = Method(
    BottleneckSettings,
    attach=lambda base, settings, of: attach_bottleneck(base, settings, of.seed),
    load=load_bottlenecks,
    rate=lambda _: Rate(4.0, "lora"),
    combine={"average": average, "stack": stack},
)
