"""The questions that a variant learned from, as one short hash each: small, without any text.

A comparison leaves such questions out. 64 bits of a hash are not met twice by chance: among a
million questions that are asked of a variant that learned from a million others, the odds are
below one in ten million.
"""

from collections.abc import Iterable, Sequence

from kamerton.core.errors import VariantError
from kamerton.core.files import hash_bytes
from kamerton.store.variants import TRAINED_ON_FILE, Variant

__all__ = ["read_trained_on", "short_hash", "trained_on_any"]

_DIGITS = 16


def short_hash(hashed: str) -> str:
    """Shorten the hash of a question.

    Args:
        hashed: SHA-256 in hex, as `data.identity.question_hash` gives it.

    Returns:
        Its first 64 bits in hex, as records hold it.
    """
    return hashed[:_DIGITS]


def read_trained_on(variant: Variant) -> frozenset[str] | None:
    """Read what a variant learned from.

    Args:
        variant: The variant.

    Returns:
        Short hashes of questions; None for a variant of an older version, which did not note it.

    Raises:
        VariantError: If the record was damaged.
    """
    expected = variant.manifest.data.trained_on
    if not expected:
        return None
    path = variant.folder / TRAINED_ON_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VariantError(f"{path} cannot be read: {error}") from None
    if hash_bytes(content) != expected:
        raise VariantError(
            f"{path} is not the file the variant was written with",
            hint="it was damaged or changed; make or fetch the variant again",
        )
    return frozenset(content.decode().split())


def trained_on_any(variants: Sequence[Variant], own: Iterable[str]) -> frozenset[str] | None:
    """Join what a new variant learns from with what those learned from that it is made of.

    Args:
        variants: The variants that it goes on from, joins or combines.
        own: Short hashes of its own training questions.

    Returns:
        All of them; None when one of the variants did not note it.
    """
    found = frozenset(own)
    for variant in variants:
        before = read_trained_on(variant)
        if before is None:
            return None
        found |= before
    return found
