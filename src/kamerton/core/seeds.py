"""Seeds: independent streams from one number, by name rather than by order of use."""

import hashlib

__all__ = ["derive_seed", "unit_interval"]


def derive_seed(seed: int, *names: object) -> int:
    """Derive a seed for one purpose, so that adding another purpose changes nothing.

    Args:
        seed: The run's seed.
        *names: What it is for, such as `"shuffle", epoch`.

    Returns:
        A number in [0, 2**63).
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def unit_interval(seed: int, *names: object) -> float:
    """Map names to a fixed point in [0, 1).

    Args:
        seed: The run's seed.
        *names: What is placed, such as a content hash.

    Returns:
        A number that is uniform over different names.
    """
    return derive_seed(seed, *names) / 2**63
