"""Stored adapters: a JSON file of settings and a safetensors file, read with typed errors."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kamerton.core.errors import AdapterError

__all__ = [
    "check_tensors",
    "json_bytes",
    "metadata_of",
    "read_json",
    "read_tensors",
    "tensor_bytes",
]


def read_json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """Read a JSON file of an adapter.

    Args:
        files: File contents by name.
        name: The file's name.

    Returns:
        Its object.

    Raises:
        AdapterError: If it is missing, damaged or holds something else.
    """
    try:
        values = json.loads(files[name])
    except KeyError:
        raise AdapterError(f"adapter: {name} is missing") from None
    except ValueError as error:
        raise AdapterError(f"adapter: {name} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise AdapterError(f"adapter: {name} must hold an object, holds {type(values).__name__}")
    return values


def read_tensors(files: Mapping[str, bytes], name: str) -> dict[str, Tensor]:
    """Read a safetensors file of an adapter.

    Args:
        files: File contents by name.
        name: The file's name.

    Returns:
        Tensors by name, in the dtype they were stored in.

    Raises:
        AdapterError: If it is missing or damaged.
    """
    try:
        return load(files[name])
    except KeyError:
        raise AdapterError(f"adapter: {name} is missing") from None
    except SafetensorError as error:
        raise AdapterError(f"adapter: {name} is damaged: {error}") from None


def metadata_of(content: bytes) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Args:
        content: The file: a length, a header in JSON, tensors.

    Returns:
        Texts by name; often none.

    Raises:
        ValueError: If the header is damaged.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__") or {})


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Refuse tensors that are not exactly the expected ones.

    Args:
        tensors: The stored tensors.
        expected: Shapes by name.
        what: The file, for the message.

    Raises:
        AdapterError: With every tensor that is missing, strange or of another shape.
    """
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} belongs to no module of the adapter" for name in tensors.keys() - expected]
    wrong += [
        f"{name} must be {shape}, is {tuple(tensors[name].shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if wrong:
        raise AdapterError(
            "\n".join(f"adapter: {what}: {line}" for line in wrong),
            hint="the adapter was made for another base",
        )


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Write a JSON file.

    Args:
        values: Values that JSON can hold.

    Returns:
        Its contents; equal values give equal bytes.
    """
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Write a safetensors file.

    Args:
        tensors: The tensors by name, on any device.

    Returns:
        Its contents; equal tensors give equal bytes.
    """
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    return save(plain, {"format": "pt"})
