"""Loss curves of tiny fixed runs stay what they are."""

import json

import pytest

from tests.golden.curves import FILE, RUNS, curve

STORED = json.loads(FILE.read_text(encoding="utf-8"))
# Another processor's kernels round differently: 1e-7 of a loss, 2e-6 of a gradient's norm.
TOLERANCE = {"loss": 1e-6, "holdout": 1e-6, "grad_norm": 1e-5}


@pytest.mark.parametrize("name", RUNS)
def test_the_curve_is_the_stored_one(name: str) -> None:
    found = curve(name)
    assert found.keys() == TOLERANCE.keys()
    for kind, tolerance in TOLERANCE.items():
        assert found[kind] == pytest.approx(STORED[name][kind], rel=tolerance), kind


def test_every_stored_run_learns() -> None:
    assert STORED.keys() == set(RUNS)
    for name, stored in STORED.items():
        assert stored["holdout"] == sorted(stored["holdout"], reverse=True), name
        assert len(stored["loss"]) >= 10


def test_the_same_run_gives_the_same_bits() -> None:
    assert curve(RUNS[0]) == curve(RUNS[0])
