"""The weights of the base exist once while variants learn, whatever they are compared with."""

import gc
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from kamerton.core.events import Event, HoldoutMeasured, StepDone
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.models.load import find_base, load_base
from tests.unit.flows.test_preferences import Project

pytestmark = pytest.mark.filterwarnings("error")

JUDGED = {
    "rewards": [{"kind": "variant", "variant": "judge"}],
    "max_tokens": 6,
    "num_generations": 2,
}
FULL = {"kind": "full"}


def shapes_of_nano() -> list[tuple[int, ...]]:
    """Shapes of its matrices, tied ones once."""
    (path,) = find_base("builtin:nano").glob("*.safetensors")
    with safe_open(path, "pt") as file:
        found = [tuple(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    return [shape for shape in found if len(shape) == 2]


SHAPES = shapes_of_nano()


def alive() -> dict[int, torch.Tensor]:
    """Tensors in the shape of a matrix of the base, by the place of their numbers in memory."""
    gc.collect()
    # Asking an object for its class touches deprecated names of PyTorch; its type does not.
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    tensors += [one.grad for one in tensors if one.is_leaf and one.grad is not None]
    return {
        one.untyped_storage().data_ptr(): one
        for one in tensors
        if tuple(one.shape) in SHAPES and one.is_floating_point()
    }


def num_bases(before: dict[int, torch.Tensor]) -> float:
    """How many times the base is there in fp32, as bytes; `before` was there without the run."""
    num_bytes = sum(
        one.untyped_storage().nbytes() for place, one in alive().items() if place not in before
    )
    return num_bytes / sum(4 * prod(shape) for shape in SHAPES)


class Watch:
    """Trains a little, and counts."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder)

    def __call__(
        self, name: str, data: str, objective: dict[str, Any], **sections: Any
    ) -> tuple[list[float], list[float]]:
        """Bases after every step, and after every look at the holdout."""
        recipe = {
            "name": name,
            "base": {"id": "builtin:nano", "dtype": "float32"},
            "data": {"train": f"{data}.jsonl", "holdout": 0.1},
            "objective": objective,
            "train": {"max_steps": 2, "learning_rate": 1e-3, "tokens_per_step": 200},
            **sections,
        }
        steps, measured = list[float](), list[float]()
        # Held while it runs, so that their places in memory are not used again.
        before = alive()

        def sink(event: Event) -> None:
            if isinstance(event, StepDone):
                steps.append(num_bases(before))
            elif isinstance(event, HoldoutMeasured):
                measured.append(num_bases(before))

        make_variant(Recipe.parse(recipe), self.project.folder, self.project.workspace, sink)
        assert len(steps) == 2
        assert measured
        return steps, measured


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    watch = Watch(tmp_path_factory.mktemp("copies"))
    watch("desk", "chats", {"kind": "sft"})
    watch("judge", "pairs", {"kind": "reward"})
    return watch


@pytest.mark.parametrize(
    ("data", "objective"),
    [
        ("pairs", {"kind": "dpo"}),
        ("chats", {"kind": "rloo", **JUDGED}),
        ("chats", {"kind": "ppo", **JUDGED}),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else value,
)
def test_adapters_learn_over_one_base(watch: Watch, data: str, objective: dict[str, Any]) -> None:
    """Also with a starting variant to compare with, one that judges, and a value model."""
    steps, measured = watch(f"from-desk-{objective['kind']}", data, objective, start_from="desk")
    assert {*steps, *measured} == {1.0}


@pytest.mark.slow
def test_without_a_reference_all_weights_learn_as_in_fine_tuning(watch: Watch) -> None:
    steps, measured = watch("all-sft", "chats", {"kind": "sft"}, adapter=FULL)
    # The base, what learns, its gradient and two moments; the best so far is on the disk.
    assert steps == [5.0, 5.0]
    assert measured == [5.0]
    for kind in ("orpo", "simpo"):
        assert watch(f"all-{kind}", "pairs", {"kind": kind}, adapter=FULL) == (steps, measured)


def test_a_second_base_would_be_seen() -> None:
    before = alive()
    bases = []
    for number in (1, 2):
        bases.append(load_base("builtin:nano", dtype="float32", device="cpu"))
        assert num_bases(before) == number
