"""What is said about a run."""

from pathlib import Path

import pytest

from kamerton.adapters.full import FullSettings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.events import Notice
from kamerton.core.settings import Settings
from kamerton.data.prepared import prepare
from kamerton.data.settings import DataSettings
from kamerton.flows.recipe import BaseSettings
from kamerton.models.load import load_base
from kamerton.training import findings
from tests.shapes import tiny_base


@pytest.mark.parametrize(
    ("dtype", "fast", "told"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)],
)
def test_16_bits_on_a_cpu_without_them_are_warned_of(
    dtype: str, fast: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "has_bf16", lambda device: fast)
    seen: list[Notice] = []
    findings.say_slow_dtype(load_base("builtin:nano", dtype=dtype), seen.append)
    assert [notice.level for notice in seen] == ["warning"] * told
    assert all("bfloat16" in notice.message for notice in seen)


@pytest.mark.parametrize(
    ("shape", "quantise", "adapter", "told"),
    [
        ("gpt_oss", "none", LoraSettings(), ["adapter.targets"]),
        ("gpt_oss", "nf4", LoraSettings(), ["base.quantise", "adapter.targets"]),
        ("gpt_oss", "none", LoraSettings(targets=("q_proj",)), []),
        ("gpt_oss", "none", FullSettings(), []),
        ("llama", "nf4", LoraSettings(), []),
    ],
)
def test_experts_that_are_left_out_are_said(
    shape: str, quantise: str, adapter: Settings, told: list[str]
) -> None:
    base = tiny_base(shape, quantise=quantise)
    seen: list[Notice] = []
    findings.say_fused_experts(base, adapter, seen.append)
    assert [notice.message.split(" = ")[0].split(":")[0] for notice in seen] == told
    # 4 experts of 3 * 64 * 96 numbers in each of 3 blocks.
    share = 3 * 4 * 3 * 64 * 96 / base.identity.num_parameters
    assert all(f": {100 * share:.0f} % of the base's weights" in n.message for n in seen)
    assert all(n.level == "warning" and "gate_up_proj" in n.message for n in seen)


def test_a_recipe_without_a_base_adapts_the_toy_and_says_so() -> None:
    said: list[Notice] = []
    findings.say_no_base(BaseSettings(id="builtin:nano"), said.append)
    assert not said
    findings.say_no_base(BaseSettings(dtype="float32"), said.append)
    (notice,) = said
    assert notice.level == "warning"
    assert "names no base: builtin:nano is adapted" in notice.message


def test_of_one_divided_text_the_lengths_are_told(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n".join(f"Line {n:04d}." for n in range(500)))
    seen: list[Notice] = []
    findings.say_counts(prepare(DataSettings(train=str(path), holdout=0.2)), seen.append)
    (notice,) = seen
    assert notice.level == "info"
    assert notice.message == "4,400 characters to learn from, 1,099 held out"


@pytest.mark.parametrize(
    ("holdout", "num_test", "ending"),
    [
        (0.0, 0, "0 held out; fewer than 20 examples of data.holdout say little: raise it"),
        (0.0, 25, "0 held out, 25 for the test"),
        (0.0, 3, "3 for the test; fewer than 20 examples of data.test say little: raise it"),
        (0.4, 25, "4 held out, 25 for the test; fewer than 20 examples of data.holdout say little"),
    ],
)
def test_few_examples_are_a_warning_where_they_measure(
    holdout: float, num_test: int, ending: str, tmp_path: Path
) -> None:
    def written(name: str, number: int) -> str:
        rows = [f'{{"prompt": "{name} {n}?", "completion": "{n}."}}\n' for n in range(number)]
        (tmp_path / name).write_text("".join(rows))
        return str(tmp_path / name)

    settings = DataSettings(
        train=written("train.jsonl", 10),
        holdout=holdout,
        test=written("test.jsonl", num_test) if num_test else 0.0,
    )
    seen: list[Notice] = []
    findings.say_counts(prepare(settings), seen.append)
    (notice,) = seen
    assert ending in notice.message
    assert notice.level == ("warning" if "say little" in ending else "info")
    assert ("data.holdout" in notice.message) == ("data.holdout" in ending)
