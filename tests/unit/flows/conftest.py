"""Whole runs of a few steps: what each computes besides its steps is kept small."""

from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from kamerton.data.examples import TextExample
from kamerton.training import forgetting, preflight


@pytest.fixture(scope="package", autouse=True)
def _short_checks() -> Iterator[None]:
    """Check a run on fewer examples, and measure what it forgot on fewer texts."""
    every, choose = forgetting._general_texts, preflight._choose_few

    def few_texts() -> Iterator[TextExample]:
        return islice(every(), 0, None, 8)

    def fewer(numbers: Sequence[int], lengths: Sequence[int], *, least: int) -> list[int]:
        chosen = choose(numbers, lengths, least=least)
        # Own answers are compared with each other, and tests count them.
        return chosen if least > 1 else chosen[:2]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preflight, "_choose_few", fewer)
        patched.setattr(forgetting, "_general_texts", few_texts)
        yield
