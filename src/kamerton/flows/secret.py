"""The project's secret: made once, readable by its owner alone."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.flows.workspace import Workspace

__all__ = ["derived_secret"]

_VARIABLE = "KAMERTON_SECRET"
_LEAST = 32


def derived_secret(project: Path, purpose: str) -> bytes:
    """Give a key that is for one purpose alone.

    Args:
        project: Folder of the project.
        purpose: What the key is for.

    Returns:
        32 bytes, always the same for a project and a purpose. They come from the environment
        variable KAMERTON_SECRET, which several servers can share, or from a file of the project,
        which is made where it is missing.

    Raises:
        SettingsError: If the secret is too short to be one.
    """
    secret = os.environ.get(_VARIABLE, "").strip()
    where = _VARIABLE
    if not secret:
        place = Workspace(project).secret
        secret, where = _from_file(place), str(place)
    if len(secret) < _LEAST:
        raise SettingsError(
            f"{where} must have at least {_LEAST} characters, found {len(secret)}",
            hint="openssl rand -hex 32 makes one",
        )
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def _from_file(place: Path) -> str:
    if not place.exists():
        mine = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
        descriptor = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        try:
            # Of two servers that start at once, both read the secret of the first.
            os.link(mine, place)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return place.read_text().strip()
