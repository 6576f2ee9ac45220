"""Rewards from a Python function that stands beside a recipe."""

import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kamerton.core.errors import SettingsError, TrainingError
from kamerton.objectives.online import FunctionReward, OnlineSettings
from kamerton.training.rollouts import AnsweredPrompt, RewardFunction

__all__ = ["function_hashes", "function_reward"]

_CALLED = "it is called as function(messages, answer, row) and must give a number"


def function_hashes(settings: OnlineSettings, folder: Path) -> dict[str, str]:
    """Hash the files of reward functions; what they import is not looked at.

    Args:
        settings: The settings that name them.
        folder: The folder that paths are relative to.

    Returns:
        The hashes by file and function.

    Raises:
        SettingsError: If a file does not exist.
    """
    return {
        source.function: sha256(_path(source, folder).read_bytes()).hexdigest()[:12]
        for source in settings.rewards
        if isinstance(source, FunctionReward)
    }


def function_reward(source: FunctionReward, folder: Path) -> RewardFunction:
    """Make a reward of a function.

    Args:
        source: Names it.
        folder: The folder that its path is relative to.

    Returns:
        Calls it for every answer, with copies that it may change.

    Raises:
        SettingsError: If the file cannot be run or has no such function.
    """
    function = _find(source, folder)

    def reward(answered: Sequence[AnsweredPrompt]) -> Tensor:
        found = [
            _worth(function, source.function, one, text) for one in answered for text in one.texts
        ]
        return torch.tensor(found)[:, None]

    return reward


def _worth(function: Callable[..., Any], name: str, one: AnsweredPrompt, text: str) -> float:
    where = f"objective.rewards: {name}"
    try:
        found = function(deepcopy(list(one.messages)), text, deepcopy(dict(one.extra)))
        value = math.nan if isinstance(found, str) else float(found)
    except (Exception, SystemExit) as error:
        raise TrainingError(
            f"{where} failed for the answer {text!r}: {type(error).__name__}: {error}", hint=_CALLED
        ) from error
    if not math.isfinite(value):
        raise TrainingError(f"{where} gave {found!r} for the answer {text!r}", hint=_CALLED)
    return value


def _path(source: FunctionReward, folder: Path) -> Path:
    path = folder / source.function.rpartition(":")[0]
    if not path.is_file():
        raise SettingsError(f"objective.rewards: {path} does not exist")
    return path


def _find(source: FunctionReward, folder: Path) -> Callable[..., Any]:
    module = _run(_path(source, folder))
    function = getattr(module, source.function.rpartition(":")[2], None)
    if not callable(function):
        raise SettingsError(
            f"objective.rewards: {source.function} names no function",
            hint=f"it has {', '.join(_functions(module)) or 'none'}",
        )
    return function  # type: ignore[no-any-return]


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kamerton_rewards_{path.stem}", path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module there.
    sys.modules[spec.name] = module
    # A script finds the files beside it.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise SettingsError(
            f"objective.rewards: {path} cannot be run: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _functions(module: ModuleType) -> Iterable[str]:
    return (
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    )
