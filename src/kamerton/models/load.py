"""Loading a base: a local folder, a Hub id or `builtin:nano`, checked and hashed."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from kamerton.core.errors import ModelError
from kamerton.core.events import Sink
from kamerton.core.files import hash_json, hash_large_file
from kamerton.core.language import translated
from kamerton.core.wording import first_line
from kamerton.data.rendering.templates import template_hash, tokenizer_hash
from kamerton.models.attention.ragged import supports_ragged, use_ragged
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.cut import cut_base, split_name
from kamerton.models.dtype import DType, pick_dtype
from kamerton.models.first_check import choose_forward, read_untouched
from kamerton.models.fused import fuse_blocks
from kamerton.models.gguf.unpack import SOURCE_FILE, unpack_gguf, unpacked_folder
from kamerton.models.hub import commit_of, ensure_hub_id, file_from_hub, from_hub
from kamerton.models.quantised.codecs import Quantisation
from kamerton.models.quantised.layer import count_parameters, quantise_model
from kamerton.models.quantised.lazy import load_quantised
from kamerton.models.quantised.stored_nf4 import stored_method
from kamerton.models.quiet import quieten_transformers
from kamerton.models.reading import ReadingProgress, weight_files
from kamerton.models.smollm2 import SMOLLM2, find_smollm2

__all__ = [
    "all_files_hash",
    "ensure_here",
    "file_to_unpack",
    "find_base",
    "load_base",
    "load_tokenizer",
    "pick_device",
    "prepare_model",
    "wrap_model",
]

_BUILTIN = Path(__file__).parent


def find_base(name: str, commit: str = "", *, online: bool = True) -> Path:
    """Find the folder of a base, downloading it when it is a Hub id.

    Args:
        name: `builtin:nano`, `builtin:smollm2`, a folder, a GGUF file, a Hub id such as
            `Qwen/Qwen3-0.6B`, or a GGUF file of the Hub as `hub:owner/name:file.gguf`; after it
            perhaps the blocks that are kept, as in `builtin:nano#layers=0,2`.
        commit: The commit of the Hub; empty for the newest.
        online: False looks into the Hub's cache only.

    Returns:
        A folder with weights, config and tokenizer.

    Raises:
        ModelError: If there is no such base or it has no safetensors weights.
    """
    whole, layers = split_name(name)
    if layers:
        return cut_base(find_base(whole, commit, online=online), layers)
    if name.startswith("builtin:"):
        folder = _builtin(name)
    elif name.endswith(".gguf"):
        folder = unpack_gguf(_gguf_file(name, commit, online))
    elif (folder := Path(name).expanduser()).is_dir():
        if not (folder / "config.json").is_file():
            files = sorted(folder.glob("*.gguf"))
            raise ModelError(
                translated("base: {name} has no config.json: not a Transformers model", name=name),
                hint=translated("name its GGUF file: {files}", files=files[0]) if files else None,
            )
    else:
        folder = from_hub(name, commit, online=online)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            translated("base: {name} has no safetensors weights", name=name),
            hint=translated("convert pickled weights with Transformers' save_pretrained first"),
        )
    return folder


def file_to_unpack(name: str) -> Path | None:
    """Find the GGUF file that `find_base` would unpack first, which takes a while.

    Args:
        name: The base's name, as for `find_base`.

    Returns:
        The file; None where the base is ready, is no GGUF file, or is not on this machine.
    """
    name, _ = split_name(name)
    try:
        if name == SMOLLM2:
            file = find_smollm2()
        elif name.endswith(".gguf"):
            file = _gguf_file(name, "", online=False)
        else:
            return None
    except ModelError:
        return None
    return None if (unpacked_folder(file) / SOURCE_FILE).is_file() else file


def ensure_here(name: str, device: str) -> None:
    """Refuse a mistyped base or a missing device before anything slow is done.

    Args:
        name: The base's name, as for `find_base`. A name that the Hub may have is only checked for
            its form.
        device: As for `pick_device`.

    Raises:
        ModelError: If the device cannot be used, or there is no such base.
    """
    pick_device(device)
    name, _ = split_name(name)
    if name == SMOLLM2:
        find_smollm2()
    elif name.startswith("builtin:") or Path(name).expanduser().is_dir():
        find_base(name, online=False)
    elif name.endswith(".gguf") and not name.startswith("hub:"):
        _gguf_file(name, "", online=False)
    elif not name.startswith("hub:"):
        ensure_hub_id(name)


def _builtin(name: str) -> Path:
    if name == SMOLLM2:
        return unpack_gguf(find_smollm2())
    folder = _BUILTIN / name.removeprefix("builtin:")
    if not (folder / "config.json").is_file():
        known = f"builtin:nano and {SMOLLM2}"
        raise ModelError(
            translated("base: there is no {name}", name=name),
            hint=translated("known are {known}", known=known),
        )
    return folder


def _gguf_file(name: str, commit: str, online: bool) -> Path:
    """Find a GGUF file: a local one, or one of the Hub."""
    if name.startswith("hub:"):
        return file_from_hub(name, commit, online=online)
    file = Path(name).expanduser()
    if not file.is_file():
        raise ModelError(
            translated("base: there is no file {name}", name=name),
            hint=translated('a file of the Hub is "hub:owner/name:file.gguf"'),
        )
    return file


def load_base(
    name: str,
    *,
    dtype: DType = "auto",
    device: str = "auto",
    quantise: Quantisation = "none",
    weights: bool = True,
    commit: str = "",
    sink: Sink = lambda event: None,
) -> Base:
    """Load a base, frozen and in evaluation mode.

    Args:
        name: The base's name, as for `find_base`.
        dtype: The dtype of weights and computation; `auto` is bf16 where the machine is faster in
            it.
        device: `auto` takes a GPU when there is one.
        quantise: The form of the decoder blocks' linear layers; `none` leaves them as they
            are.
        weights: False leaves the weights on the meta device, to count without reading them.
        commit: The commit of the Hub; empty for the newest.
        sink: Is told how far the reading is.

    Returns:
        The base.

    Raises:
        ModelError: If it cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    quieten_transformers()
    folder = find_base(name, commit)
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    try:
        model: Any
        if weights:
            model = _load_model(folder, kind, where, quantise, sink)
        else:
            with torch.device("meta"):
                config = AutoConfig.from_pretrained(folder)
                model = AutoModelForCausalLM.from_config(config, dtype=kind)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (
        OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError
    ) as error:  # fmt: skip
        raise _unloadable(f"base: {name}", error) from error
    return wrap_model(model, tokenizer, name=name, folder=folder, quantise=quantise, sink=sink)


def _load_model(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    quantise: Quantisation,
    sink: Sink = lambda event: None,
) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    reading = ReadingProgress(translated("reading weights"), weight_files(folder), sink)
    reading.tell()
    config = AutoConfig.from_pretrained(folder)
    method = stored_method(config)
    if method is not None and (method, quantise) != ("nf4", "nf4"):
        raise ModelError(
            translated(
                "base: the checkpoint holds its weights in {method}, base.quantise is '{quantise}'",
                method=method,
                quantise=quantise,
            ),
            hint=translated('set base.quantise = "nf4"')
            if method == "nf4"
            else translated("take the original weights"),
        )
    if method is not None:
        # It is read here, not by Transformers, and the model in memory is no such checkpoint.
        del config.quantization_config
    if quantise != "none":
        packed = load_quantised(
            folder, config, dtype=dtype, device=device, kind=quantise, read=reading.add
        )
        if packed is not None:
            reading.finish()
            return packed
    if method is not None:
        raise ModelError(
            translated(
                "base: the checkpoint's {method} weights are not all of the layers of the model",
                method=method,
            )
        )
    with reading.of_transformers():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    reading.finish()
    if quantise != "none":
        quantise_model(model, quantise)
    return model.to(device)


def load_tokenizer(name: str) -> tuple[Any, int]:
    """Load a base's tokenizer alone.

    Args:
        name: The base's name, as for `find_base`.

    Returns:
        The tokenizer and the number of rows of the base's embedding.

    Raises:
        ModelError: If it cannot be loaded.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = find_base(name)
    try:
        config = AutoConfig.from_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder), config.get_text_config().vocab_size
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(f"base: the tokenizer of {name}", error) from error


def _unloadable(what: str, error: Exception) -> ModelError:
    """Say in one line why something cannot be loaded."""
    words = first_line(error)
    if "backend tokenizer" in words:
        words = "it has no tokenizer.json, or none that can be read"
    return ModelError(
        translated("{what} cannot be loaded: {words}", what=what, words=words),
        hint=translated(
            "a file of it is missing, damaged, or of a newer Transformers: copy the folder again"
        ),
    )


def wrap_model(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    folder: Path,
    quantise: Quantisation = "none",
    sink: Sink = lambda event: None,
) -> Base:
    """Freeze a loaded model, give it ragged attention if it can have it, and check what it says.

    Args:
        model: A Transformers causal language model.
        tokenizer: Its tokenizer.
        name: The base's name in the recipe.
        folder: The folder of its files, for its hashes.
        quantise: The form of its linear layers.
        sink: Is told how far the reading of the files for their hashes is.

    Returns:
        The base; it says what the model said before it was touched.

    Raises:
        ModelError: If it cannot be made to, or cannot run a row of tokens.
    """
    model.eval()
    reference = read_untouched(model, tokenizer)
    notice = prepare_model(model)
    identity = BaseIdentity(
        id=name,
        folder=folder,
        weight_hash=_weight_hash(folder, sink),
        tokenizer_hash=tokenizer_hash(tokenizer),
        template_hash=template_hash(tokenizer),
        architecture=type(model).__name__,
        num_parameters=count_parameters(model),
        vocab_size=model.get_input_embeddings().weight.shape[0],
        quantise=quantise,
        commit=commit_of(folder),
    )
    base = Base(model, tokenizer, identity, ragged=notice is None, notice=notice)
    if reference is not None:
        choose_forward(base, reference)
    return base


def prepare_model(model: Any) -> str | None:
    """Freeze a model and give it ragged attention and blockwise norms where it can have them.

    Args:
        model: A Transformers causal language model.

    Returns:
        Why its rows must be padded, or None.
    """
    model.eval().requires_grad_(False)
    notice = supports_ragged(model)
    if notice is None:
        use_ragged(model)
    if model.device.type == "cpu":
        fuse_blocks(model)
    return notice


def pick_device(device: str) -> torch.device:
    """Turn `auto` into a device.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Returns:
        The device.

    Raises:
        ModelError: If it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError:
        raise ModelError(
            translated("device: there is no {device!r}", device=device),
            hint=translated('write "auto", "cpu", "cuda", "cuda:1" or "mps"'),
        ) from None
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # PyTorch lists everything that it could have been built for behind the first sentence.
        reason = first_line(error).split(". ")[0].rstrip(".")
        reason = reason if where.type in reason.lower() else f"PyTorch says: {reason}"
        raise ModelError(
            translated(
                "device: {device} cannot be used here: {reason}", device=device, reason=reason
            ),
            hint=translated(
                'set the device to "cpu", or to "auto", which takes a GPU where there is one'
            ),
        ) from None
    return where


def all_files_hash(folder: Path) -> str:
    """Hash the weights of a base as variants of the first format did: every safetensors file.

    Args:
        folder: The base's folder.

    Returns:
        SHA-256 in hex; that of the base's identity where no file holds the weights once more.
    """
    return _hash_of_files(folder.glob("*.safetensors"))


def _weight_hash(folder: Path, sink: Sink) -> str:
    source = folder / SOURCE_FILE
    if source.is_file():
        # An unpacked folder counts as the file it was unpacked from, whoever unpacked it.
        return hash_json(json.loads(source.read_text(encoding="utf-8"))["sha256"])
    files = weight_files(folder)
    reading = ReadingProgress("checking weights", files, sink)
    found = _hash_of_files(files, reading.add)
    reading.finish()
    return found


def _hash_of_files(
    files: Iterable[Path], read: Callable[[int], None] = lambda num_bytes: None
) -> str:
    return hash_json([[file.name, hash_large_file(file, read)] for file in sorted(files)])
