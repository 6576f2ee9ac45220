"""What "auto" means on a CPU is measured once and kept; here the measurement is given."""

import json
from pathlib import Path

import pytest
import torch

from kamerton.models import dtype, load
from kamerton.models.dtype import computes_faster_in_bf16

CPU = torch.device("cpu")
# With and without matrix units for bf16.
FAST, SLOW = {"float32": 3.0, "bfloat16": 1.0}, {"float32": 1.0, "bfloat16": 1.7}


class Told:
    """Gives a measurement and counts how often it was asked for."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self) -> dict[str, float]:
        self.asked += 1
        return self.seconds


# As it is before the session's own fixture takes it away.
remembered = dtype._remembered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, on a CPU with instructions for bf16."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(dtype, "_remembered", remembered)
    monkeypatch.setattr(dtype, "has_bf16", lambda device: True)
    return tmp_path / "kamerton" / "dtype"


def test_the_faster_one_is_taken_and_measured_once(cache: Path) -> None:
    for told in (Told(SLOW), Told(FAST)):
        for path in cache.glob("*"):
            path.unlink()
        answers = [computes_faster_in_bf16(CPU, told) for _ in range(3)]
        assert answers == [told.seconds is FAST] * 3
        assert told.asked == 1
    (kept,) = cache.glob("*.json")
    assert json.loads(kept.read_text())["torch"] == torch.__version__


def test_other_threads_processors_and_versions_are_measured_anew(monkeypatch) -> None:
    told = Told(SLOW)
    computes_faster_in_bf16(CPU, told)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    computes_faster_in_bf16(CPU, told)
    monkeypatch.setattr(dtype, "_cpu_model", lambda: "another")
    computes_faster_in_bf16(CPU, told)
    monkeypatch.setattr(torch, "__version__", "9.9")
    computes_faster_in_bf16(CPU, told)
    computes_faster_in_bf16(CPU, told)
    assert told.asked == 4


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"seconds": {}}', '{"seconds": {"float32": 0, "bfloat16": NaN}}', "\x00\xff"],
)
def test_a_damaged_cache_is_measured_anew(cache: Path, content: str) -> None:
    told = Told(SLOW)
    computes_faster_in_bf16(CPU, told)
    (kept,) = cache.glob("*.json")
    kept.write_bytes(content.encode("latin-1"))
    assert computes_faster_in_bf16(CPU, told) is False
    assert told.asked == 2
    assert computes_faster_in_bf16(CPU, told) is False
    assert told.asked == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "kamerton").write_text("no folder")
    told = Told(FAST)
    assert computes_faster_in_bf16(CPU, told)
    assert computes_faster_in_bf16(CPU, told)
    assert told.asked == 2


def test_without_instructions_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "has_bf16", lambda device: False)
    told = Told(FAST)
    assert not computes_faster_in_bf16(CPU, told)
    assert told.asked == 0


def test_auto_follows_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "product_seconds", Told(SLOW))
    before = torch.get_rng_state()
    assert load.load_base("builtin:nano").dtype == torch.float32
    assert load.load_base("builtin:nano", dtype="bfloat16").dtype == torch.bfloat16
    assert torch.equal(torch.get_rng_state(), before)
