"""Silence for Transformers: its progress bars and notices are ours to word."""

__all__ = ["quieten_transformers"]


def quieten_transformers() -> None:
    """Turn Transformers' progress bars off, and all that it logs but errors."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
