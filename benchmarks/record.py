"""Result files: what was measured, on which machine, with which versions, at which commit."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
_FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def hardware() -> str:
    """Name the machine in a word, such as `cpu2-amx` or `cuda-h100`."""
    if torch.cuda.is_available():
        return "cuda-" + torch.cuda.get_device_name().lower().replace("nvidia ", "").split()[0]
    flags = _cpu_flags()
    best = next((flag for flag in _FLAGS if flag in flags), "")
    return f"cpu{os.cpu_count()}" + (f"-{best.split('_')[0]}" if best else "")


def header(title: str) -> str:
    """Begin a result file."""
    names = ("torch", "transformers", "tokenizers")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    command = " ".join([f"python {Path(sys.argv[0]).name}", *map(_short, sys.argv[1:])])
    return (
        f"# {title}\n\n"
        f"- machine: {os.cpu_count()} cores, {_cpu_name()}, {hardware()}, "
        f"{torch.get_num_threads()} threads\n"
        f"- versions: Python {platform.python_version()}, {versions}\n"
        f"- commit: {_commit()}\n- date: {datetime.now(UTC).date()}\n- command: `{command}`\n\n"
    )


def write(theme: str, text: str) -> Path:
    """Write a result file named by theme, hardware and date."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{theme}_{hardware()}_{datetime.now(UTC).date()}.md"
    path.write_text(text)
    print(f"wrote {path}", file=sys.stderr)
    return path


def _short(argument: str) -> str:
    """Paths of this machine are nobody's business: their last part is enough."""
    return Path(argument).name if os.path.isabs(argument) or ".." in argument else argument


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
