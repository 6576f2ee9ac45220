"""What is said about a run."""

import pytest

from kamerton.core.events import Notice
from kamerton.flows import findings
from kamerton.models.load import load_base


@pytest.mark.parametrize(
    ("dtype", "fast", "told"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)],
)
def test_16_bits_on_a_cpu_without_them_are_warned_of(
    dtype: str, fast: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "has_fast_bf16", lambda device: fast)
    seen: list[Notice] = []
    findings.say_slow_dtype(load_base("builtin:nano", dtype=dtype), seen.append)
    assert [notice.level for notice in seen] == ["warning"] * told
    assert all("bfloat16" in notice.message for notice in seen)
