"""Bottlenecks in a row: each reads what the one before has made of a module's output.

A stack is made of trained bottlenecks (as AdapterHub's `Stack`) and is one adapter from then on: it
is stored in one file, and training can go on with all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from kamerton.adapters.adapter_files import json_bytes, read_json, read_tensors, tensor_bytes
from kamerton.adapters.bottleneck.bottleneck import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Bottleneck,
    load_bottleneck,
)
from kamerton.adapters.hooked import Hooked
from kamerton.adapters.parts import Parts
from kamerton.adapters.switches import Switch
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base

__all__ = ["BottleneckStack", "is_stack", "load_bottlenecks", "members_of", "stacked"]

_STACK = "stack"


class BottleneckStack(Hooked):
    """Attached bottlenecks, the first nearest to the base."""

    capabilities = replace(Bottleneck.capabilities, formats=frozenset())

    def __init__(self, members: Sequence[Bottleneck]) -> None:
        self.members = list(members)

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors.

        Returns:
            Those of each member, with its number before the name.
        """
        return {
            f"{number}.{name}": parameter
            for number, member in enumerate(self.members)
            for name, parameter in member.parameters().items()
        }

    def files(self) -> dict[str, bytes]:
        """Write the stack.

        Returns:
            `bottleneck.json` and `bottleneck.safetensors`.
        """
        return stacked([member.files() for member in self.members])

    def switches(self) -> list[Switch]:
        """List the parts.

        Returns:
            Those of all members.
        """
        return [part for member in self.members for part in member.switches()]

    def detach(self) -> None:
        """Take all members off."""
        for member in self.members:
            member.detach()
        self.members = []

    def release(self) -> Parts:
        """Take all members off and give them away.

        Returns:
            Those of the first member first.
        """
        return Parts(outputs=[one for member in self.members for one in member.release().outputs])


def stacked(parents: Sequence[Mapping[str, bytes]]) -> dict[str, bytes]:
    """Put stored bottlenecks in a row.

    Args:
        parents: Files of bottlenecks or of stacks, the first nearest to the base.

    Returns:
        The files of one stack.

    Raises:
        AdapterError: If they are damaged.
    """
    members = [member for files in parents for member in members_of(files)]
    configs = [read_json(member, CONFIG_FILE) for member in members]
    tensors = {
        f"{number}.{name}": tensor
        for number, member in enumerate(members)
        for name, tensor in read_tensors(member, WEIGHTS_FILE).items()
    }
    return {CONFIG_FILE: json_bytes({_STACK: configs}), WEIGHTS_FILE: tensor_bytes(tensors)}


def is_stack(files: Mapping[str, bytes]) -> bool:
    """Tell a stored stack from bottlenecks alone.

    Args:
        files: The files of a stack or of a bottleneck.

    Returns:
        Whether they are a stack's.

    Raises:
        AdapterError: If the configuration is missing or damaged.
    """
    return _STACK in read_json(files, CONFIG_FILE)


def members_of(files: Mapping[str, bytes]) -> list[dict[str, bytes]]:
    """Take a stored stack apart.

    Args:
        files: The files of a stack, or of bottlenecks, which are their own only member.

    Returns:
        The files of each member.

    Raises:
        AdapterError: If they are damaged.
    """
    config = read_json(files, CONFIG_FILE)
    if _STACK not in config:
        return [dict(files)]
    configs: Any = config[_STACK]
    if not isinstance(configs, list) or not configs:
        raise AdapterError(f"adapter: {CONFIG_FILE} must list the members of its stack")
    tensors = read_tensors(files, WEIGHTS_FILE)
    parts: list[dict[str, Any]] = [{} for _ in configs]
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        if not number.isdigit() or int(number) >= len(parts):
            raise AdapterError(f"adapter: {WEIGHTS_FILE} has {name}, which is of no member")
        parts[int(number)][rest] = tensor
    return [
        {CONFIG_FILE: json_bytes(own), WEIGHTS_FILE: tensor_bytes(part)}
        for own, part in zip(configs, parts, strict=True)
    ]


def load_bottlenecks(base: Base, files: Mapping[str, bytes]) -> Bottleneck | BottleneckStack:
    """Attach stored bottlenecks, or a stack of them.

    Args:
        base: The base they were made for.
        files: `bottleneck.json` and `bottleneck.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged or were made for another base.
    """
    if not is_stack(files):
        return load_bottleneck(base, files)
    members = members_of(files)
    stack = BottleneckStack([])
    try:
        for member in members:
            stack.members.append(load_bottleneck(base, member))
    except AdapterError:
        stack.detach()
        raise
    return stack
