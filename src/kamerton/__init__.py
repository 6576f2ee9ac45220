"""Kamerton adapts a language model to one company's narrow task, proves it, and serves it."""

__version__ = "0.1.0"

__all__ = ["__version__"]
