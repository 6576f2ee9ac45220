"""Tensors are written one by one into a file that the library reads."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from kamerton.training import tensor_file
from kamerton.training.tensor_file import write_tensors

TABLE = torch.arange(6.0)
TENSORS = {
    "bytes": torch.arange(5, dtype=torch.uint8),
    "a/step:int": torch.tensor(7),
    "half": torch.randn(3, 5).bfloat16(),
    "turned": torch.randn(4, 3).t(),
    "empty": torch.empty(0, 4),
    "table": TABLE,
    "the same": TABLE,
    "part": TABLE[1:4],
    "flags": torch.tensor([True, False]),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "new" / "t.safetensors", TENSORS, {"who": '"we", мы'})
    with safe_open(tmp_path / "new" / "t.safetensors", "pt") as file:
        assert file.metadata() == {"who": '"we", мы'}
        assert set(file.keys()) == set(TENSORS)
        for name, tensor in TENSORS.items():
            read = file.get_tensor(name)
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(read, tensor)


def test_no_more_than_a_tensor_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    @contextmanager
    def recorded(path: Path):
        yield type("File", (), {"write": lambda self, data: sizes.append(len(data))})()

    monkeypatch.setattr(tensor_file, "atomic_file", recorded)
    write_tensors(tmp_path / "t", {str(n): torch.zeros(1000) for n in range(4)}, {})
    assert sizes[2:] == [4000] * 4
