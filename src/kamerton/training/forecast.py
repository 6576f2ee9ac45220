"""Forecast a run's time from its first measured steps, and measure its memory."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

__all__ = ["Pace", "is_known", "peak_bytes", "seconds_left"]

_STEPS = 4
_SECONDS = 30.0
_AFTER_FIRST_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The time and size of one step.

    Attributes:
        num_tokens: Number of its tokens.
        seconds: Time that it took.
    """

    num_tokens: int
    seconds: float


def is_known(paces: Sequence[Pace]) -> bool:
    """Tell whether enough was measured for a forecast.

    Args:
        paces: The paces of the steps since this process began.

    Returns:
        Whether a few steps have passed, or ten seconds after the first one, or half a minute.
    """
    seconds = [pace.seconds for pace in paces]
    return len(paces) >= _STEPS or sum(seconds[1:]) >= _AFTER_FIRST_S or sum(seconds) >= _SECONDS


def seconds_left(paces: Sequence[Pace], work: float) -> float:
    """Say how long the rest of a run will take.

    Args:
        paces: At least one step's pace; the first, which is slower, counts only if alone.
        work: What is to come, in tokens that are learned from.

    Returns:
        Seconds.
    """
    counted = paces[1:] or paces
    rate = sum(pace.seconds for pace in counted) / sum(pace.num_tokens for pace in counted)
    return rate * work


def peak_bytes(device: torch.device) -> int:
    """Say how much memory this process has needed at most.

    Args:
        device: The model's device: a GPU's own memory counts, or this process's.

    Returns:
        Bytes.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
