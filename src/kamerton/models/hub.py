"""Bases from the Hugging Face Hub: what is fetched, which commit it is, and what can fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kamerton.core.errors import ModelError
from kamerton.core.language import translated
from kamerton.core.wording import first_line

__all__ = ["commit_of", "ensure_hub_id", "file_from_hub", "from_hub"]

_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
# These hold the same weights in the makers' own format, or belong to other programs.
_TWICE = ["consolidated*", "original/*", "*/*.safetensors", "*/*.model", "*/*.json", "*/*.txt"]


def ensure_hub_id(name: str) -> None:
    """Refuse what can be no Hub id; nothing is asked of the Hub.

    Args:
        name: A name such as `Qwen/Qwen3-0.6B`.

    Raises:
        ModelError: If it has another form.
    """
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    with _in_our_words(name, ""):
        validate_repo_id(name)


def from_hub(name: str, commit: str = "", *, online: bool = True) -> Path:
    """Fetch a base, or find it in the cache.

    Args:
        name: A Hub id such as `Qwen/Qwen3-0.6B`.
        commit: Empty for the newest.
        online: False looks into the cache only.

    Returns:
        The folder of the snapshot.

    Raises:
        ModelError: If it is no Hub id, or cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    with _in_our_words(name, commit):
        return Path(
            snapshot_download(
                name,
                revision=commit or None,
                allow_patterns=_FILES,
                ignore_patterns=_TWICE,
                local_files_only=not online,
            )
        )


def file_from_hub(name: str, commit: str = "", *, online: bool = True) -> Path:
    """Fetch one file of a repository, or find it in the cache.

    Args:
        name: A name such as `hub:owner/name:model.gguf`.
        commit: Empty for the newest.
        online: False looks into the cache only.

    Returns:
        The file.

    Raises:
        ModelError: If the name is none, or the file cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    repository, _, path = name.removeprefix("hub:").partition(":")
    if not path:
        raise ModelError(translated('base: {name!r} must be "hub:owner/name:file.gguf"', name=name))
    with _in_our_words(name, commit):
        return Path(
            hf_hub_download(repository, path, revision=commit or None, local_files_only=not online)
        )


@contextmanager
def _in_our_words(name: str, commit: str) -> Iterator[None]:
    """Say in one line why something did not come."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError:
        raise ModelError(
            translated("base: {name!r} is neither a folder, a Hub id nor a builtin", name=name),
            hint=translated('write a folder, "owner/name" or "builtin:nano"'),
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason, hint = _reason(error)
        at = f" at commit {commit[:12]}" if commit else ""
        raise ModelError(
            translated(
                "base: {name} is no local folder and cannot be fetched from the Hub{at}: {reason}",
                name=name,
                at=at,
                reason=reason,
            ),
            hint=hint,
        ) from None


def commit_of(folder: Path) -> str:
    """Read the commit of a base from its place in the Hub's cache.

    Args:
        folder: The base's folder.

    Returns:
        The commit; empty for a folder that is not in the cache.
    """
    return folder.name if folder.parent.name == "snapshots" else ""


def _reason(error: Exception) -> tuple[str, str]:
    """Say in our words why nothing was fetched, and what to do: the Hub's are long."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    check = "check the name and the network, or download it and give the folder"
    match error:
        case GatedRepoError():
            return "its makers ask for consent", "accept its terms on its page, then: hf auth login"
        case RepositoryNotFoundError():
            return "there is no such model, or it is private", "check the name; hf auth login"
        case RevisionNotFoundError():
            return "it has no such commit", check
        case LocalEntryNotFoundError() | OfflineModeIsEnabled() if constants.HF_HUB_OFFLINE:
            way = "unset HF_HUB_OFFLINE to fetch it, or check the name, or give a folder"
            return "it is not in the cache and HF_HUB_OFFLINE is set", way
        case LocalEntryNotFoundError():
            return "it is not in the cache and the Hub does not answer", check
    return first_line(error), check
