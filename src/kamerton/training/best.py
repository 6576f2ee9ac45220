"""The best weights so far, on disk: beside full fine-tuning there is no room for another copy."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from kamerton.core.errors import TrainingError
from kamerton.training.tensor_file import write_tensors

__all__ = ["BestWeights"]


class BestWeights:
    """Weights by the step that they were the best at.

    A checkpoint names the step, so both that of the last checkpoint and a newer one are there
    until the next checkpoint.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, parameters: Mapping[str, nn.Parameter]) -> None:
        """Write weights.

        Args:
            step: The step after which the weights were the best.
            parameters: The parameters by name.
        """
        write_tensors(self._path(step), dict(parameters), {"step": str(step)})

    def keep_only(self, steps: set[int]) -> None:
        """Delete the weights of all other steps.

        Args:
            steps: Steps whose weights stay.
        """
        for path in self._folder.glob(self._path("*").name):
            if path not in {self._path(step) for step in steps}:
                path.unlink(missing_ok=True)

    def ensure(self, step: int) -> None:
        """Refuse to go on without weights that will be needed.

        Args:
            step: The step's number, as a checkpoint has it.

        Raises:
            TrainingError: If they are not there.
        """
        if not self._path(step).is_file():
            raise TrainingError(
                f"{self._path(step)}: the best weights so far, of step {step}, are gone",
                hint="start over with --fresh",
            )

    @torch.no_grad()
    def load(self, step: int, parameters: Mapping[str, nn.Parameter]) -> None:
        """Copy weights back, one tensor at a time.

        Args:
            step: The step whose weights are read.
            parameters: The parameters by name; those of the file and no others.

        Raises:
            TrainingError: If the file is gone or damaged.
        """
        self.ensure(step)
        try:
            with safe_open(self._path(step), "pt") as file:
                assert set(file.keys()) == set(parameters), "names differ from the adapter's"
                for name, parameter in parameters.items():
                    parameter.copy_(file.get_tensor(name))
        except SafetensorError as error:
            raise TrainingError(
                f"{self._path(step)}: the best weights are damaged: {error}",
                hint="start over with --fresh",
            ) from None

    def _path(self, step: int | str) -> Path:
        return self._folder / f"best-{step}.safetensors"
