"""What is said about a run."""

from pathlib import Path

import pytest

from kamerton.core.events import Notice
from kamerton.data.dataset import prepare
from kamerton.data.settings import DataSettings
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


def test_of_one_divided_text_the_lengths_are_told(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n".join(f"Line {n:04d}." for n in range(500)))
    seen: list[Notice] = []
    findings.say_counts(prepare(DataSettings(train=str(path), holdout=0.2)), seen.append)
    (notice,) = seen
    assert notice.level == "info"
    assert notice.message == "4,400 characters to learn from, 1,099 held out"
