"""Several adapters over one base at once, each for the segments of a row that name it.

    adapters = AdapterSet(base)
    polite = adapters.add(lambda: load(base, "lora", files))
    layout = Layout((Segment(0, 9, adapter=polite), Segment(9, 20)))
    hidden = base.hidden(ids, layout)

A number is never given twice: a row that was laid out for a removed adapter is an error, and never
meets another one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import nn
from torch.utils.hooks import RemovableHandle

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.parts import OutputPart, Parts, release
from kamerton.adapters.routed import RoutedEmbedding, RoutedLinear, RoutedOutput
from kamerton.adapters.stacked import Stacks
from kamerton.adapters.targets import token_paths
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.segment_adapters import SegmentAdapter

__all__ = ["AdapterSet"]

_Part = TypeVar("_Part")
_EXPERTS = ".experts."


class AdapterSet:
    """Adapters that segments name by number.

    Args:
        base: Without an adapter, on packed rows.
        fixed: Whether nobody changes the adapters' tensors any more: then what follows from them
            is kept from row to row, which makes rows of many adapters faster.

    Raises:
        AdapterError: If its rows are padded.
    """

    def __init__(self, base: Base, *, fixed: bool = False) -> None:
        if not base.ragged:
            raise AdapterError(
                "adapters share packed rows only, and this base falls back to padded ones"
                + (f": {base.notice}" if base.notice else "")
            )
        self._base = base
        self._adapters: dict[int, Adapter] = {}
        self._parts: dict[int, Parts] = {}
        self._following = 0
        self._fixed, self._stacks = fixed, Stacks()
        self._frozen: dict[str, nn.Module] = {}
        self._handles: list[RemovableHandle] = []

    def __getitem__(self, number: int) -> Adapter:
        """Give an adapter, whose tensors may be trained.

        Args:
            number: As `add` gave it.

        Returns:
            The adapter; it is never detached, merged or disabled while it is here.
        """
        return self._adapters[number]

    def add(self, make: Callable[[], Adapter]) -> int:
        """Take one more adapter in.

        Args:
            make: Attaches it to the base, which is bare meanwhile.

        Returns:
            Its number, for `Segment.adapter`.

        Raises:
            AdapterError: If it cannot share a row; then the others are as they were.
        """
        with self._bare():
            adapter = make()
            parts = release(adapter)
            _check(self._base, parts)
            number = self._following
            self._following += 1
            self._adapters[number], self._parts[number] = adapter, parts
            if self._fixed:
                for parameter in adapter.parameters().values():
                    parameter.requires_grad_(False)
            self._stacks.note(number, parts.linears.values())
        self._base.segment_adapters[number] = SegmentAdapter(parts.prefix, parts.head)
        return number

    def remove(self, number: int) -> None:
        """Leave an adapter out; after the last one the base is as it was, byte for byte.

        Args:
            number: As `add` gave it.
        """
        with self._bare():
            del self._adapters[number], self._parts[number]
            self._stacks.forget(number)
        del self._base.segment_adapters[number]

    def files(self, number: int) -> Mapping[str, bytes]:
        """Write an adapter's files.

        Args:
            number: As `add` gave it.

        Returns:
            By name.
        """
        with self._bare():
            return self._adapters[number].files()

    @contextmanager
    def _bare(self) -> Iterator[None]:
        """Have the model without the set's modules for a while."""
        model = self._base.model
        for path, layer in self._frozen.items():
            model.set_submodule(path, layer)
        for handle in self._handles:
            handle.remove()
        self._frozen, self._handles = {}, []
        try:
            yield
        finally:
            self._put()

    def _put(self) -> None:
        """Put modules in place that know the parts of all adapters."""
        model, row = self._base.model, self._base.computed
        linears = _by_place({n: parts.linears for n, parts in self._parts.items()})
        for path, linear in linears.items():
            self._frozen[path] = model.get_submodule(path)
            model.set_submodule(
                path, RoutedLinear(self._frozen[path], linear, row, path, self._stacks)
            )
        embeddings = {n: p.embedding for n, p in self._parts.items() if p.embedding is not None}
        if embeddings:
            path, _ = token_paths(self._base)
            self._frozen[path] = model.get_submodule(path)
            model.set_submodule(path, RoutedEmbedding(self._frozen[path], embeddings, row))
        outputs = _by_place({n: _in_order(parts) for n, parts in self._parts.items()})
        for path, output in outputs.items():
            hook = RoutedOutput(output, row).hook
            module = model.get_submodule(path)
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))


def _check(base: Base, parts: Parts) -> None:
    """Refuse parts that cannot be told by the tokens of a row."""
    expert = next((path for path in parts.linears if _EXPERTS in f"{path}."), None)
    if expert is not None:
        raise AdapterError(
            f"adapter: {expert} sees chosen tokens only, so adapters on it cannot share a row"
        )
    if parts.head is not None and base.head_form.own is not None:
        raise AdapterError(
            f"adapter: the head of {base.identity.architecture} has a form of its own, so adapters "
            "on it cannot share a row"
        )


def _in_order(parts: Parts) -> dict[str, list[OutputPart]]:
    """What changes outputs, by the path of the module."""
    found: dict[str, list[OutputPart]] = {}
    for path, part in parts.outputs:
        found.setdefault(path, []).append(part)
    return found


def _by_place(of_adapters: Mapping[int, Mapping[str, _Part]]) -> dict[str, dict[int, _Part]]:
    """Turn parts by adapter and path into parts by path and adapter."""
    found: dict[str, dict[int, _Part]] = {}
    for number, parts in of_adapters.items():
        for path, part in parts.items():
            found.setdefault(path, {})[number] = part
    return found
