"""`make demo`, as the README has it: the LoRA is ahead of 4-shot on facts, beyond chance."""

import os
import subprocess
from pathlib import Path

import pytest

from kamerton.core.errors import ModelError
from kamerton.models.smollm2 import find_smollm2
from kamerton.store.database import open_store

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["nano", "smollm2"])
def test_the_demo_ends_with_the_lora_ahead(base: str, tmp_path: Path) -> None:
    if base == "smollm2":
        try:
            find_smollm2()
        except ModelError as error:
            pytest.skip(f"{error.message}: {error.hint}")
    # As a user calls it: all cores, and not as a part of the make that runs the tests.
    unset = {"OMP_NUM_THREADS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        ["make", "--no-print-directory", "demo", f"DEMO={tmp_path / 'demo'}", f"BASE={base}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with open_store(tmp_path / "demo" / "kamerton.db") as store:
        (found,) = store.evaluations()
    (difference,) = (
        one
        for one in found["differences"]
        if (one["metric"], one["against"]) == ("fact accuracy", "4-shot")
        and one["variant"] not in found["against"]
    )
    assert difference["value"] > 0
    assert difference["p_value"] < 0.01
    assert "fact accuracy" in done.stdout
    assert "<svg" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
