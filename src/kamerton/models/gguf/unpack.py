"""A GGUF file as a base: unpacked once into a Transformers folder, which everything else reads.

Transformers reads the file; what its reader leaves out is added here: stretched rotations
(`rope_freqs.weight`), the splitting of texts before BPE, and every token that ends an answer. Needs
the extra `gguf`.
"""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from kamerton.core.errors import ModelError
from kamerton.core.files import atomic_folder, cache_folder, hash_large_file
from kamerton.core.wording import first_line
from kamerton.models.gguf.file import gguf_package
from kamerton.models.gguf.splitting import restore_splitting
from kamerton.models.quantised.layer import count_parameters
from kamerton.models.quiet import quieten_transformers

__all__ = ["SOURCE_FILE", "unpack_gguf", "unpacked_folder"]

SOURCE_FILE = "gguf_source.json"
"""The file that says what a folder was unpacked from. The hash in it is the base's weight hash."""

# Above a billion parameters fp32 takes too much disk, and bf16 rounds less than the file did.
_FP32_BYTES = 4 << 30
_ENDS = (
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
)
# Folders that were unpacked in another way are not taken: theirs split numbers otherwise.
_READING = 2
_SPLITTING = "tokenizer.ggml.pre"
_ROTATION = "rope_freqs.weight"
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def unpacked_folder(file: Path) -> Path:
    """Name the folder that a GGUF file is unpacked into.

    Args:
        file: The GGUF file.

    Returns:
        A folder in the user's cache, named by the file's content and, for people, its name; it need
        not exist yet. A renamed file keeps the folder that it was unpacked into before.
    """
    content = f"{hash_large_file(file)[:16]}-v{_READING}"
    folder = cache_folder("bases")
    before = sorted(folder.glob(f"*-{content}/{SOURCE_FILE}"))
    return before[0].parent if before else folder / f"{file.stem}-{content}"


def unpack_gguf(file: Path) -> Path:
    """Unpack a GGUF file into a Transformers folder, unless that was done before.

    Weights are dense: fp32 up to a billion parameters, bf16 above.

    Args:
        file: The GGUF file.

    Returns:
        The folder: config, weights, tokenizer, chat template and generation config.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
        ModelError: If the file cannot be read as a causal language model.
    """
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ModelError(f"base: {file} is no GGUF file: it does not begin with 'GGUF'")
    if "-of-" in file.stem:
        raise ModelError(
            f"base: {file.name} is one part of several",
            hint="join them first: llama-gguf-split --merge FIRST-PART JOINED.gguf",
        )
    folder = unpacked_folder(file)
    if (folder / SOURCE_FILE).is_file():
        return folder
    gguf = gguf_package()
    try:
        with _alone(file) as link:
            model, tokenizer = _read(link, gguf.GGUFReader(file))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, NotImplementedError) as error:
        raise ModelError(
            f"base: {file.name} cannot be read: {first_line(error)}",
            hint="take the original weights from the Hub instead: the file's card names them",
        ) from error
    source = {"file": file.name, "sha256": hash_large_file(file), "dtype": str(model.dtype)}
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / SOURCE_FILE).write_text(json.dumps(source), encoding="utf-8")
    return folder


@contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """Give a file in a folder of its own: Transformers prefers a tokenizer beside it."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model.gguf"
        try:
            link.symlink_to(file.resolve())
        except OSError:
            # Windows allows links only to some users.
            link = file
        yield link


def _read(file: Path, reader: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quieten_transformers()
    sizes = {t.name: int(t.n_elements) for t in reader.tensors if t.name != _ROTATION}
    dtype = torch.float32 if 4 * sum(sizes.values()) <= _FP32_BYTES else torch.bfloat16
    # The reader's progress bar heeds no setting.
    with redirect_stderr(io.StringIO()):
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, config=_config(file, reader), dtype=dtype,
            **_unpacked(),
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if (held := count_parameters(model)) != sum(sizes.values()):
        raise ValueError(
            f"it holds {sum(sizes.values()):,} numbers, {type(model).__name__} takes {held:,}"
        )
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    # A name that somebody gave their file is no identity.
    model.config._name_or_path = ""
    _restore_rotation(model, reader)
    _restore_spaces(tokenizer, reader)
    if _SPLITTING in reader.fields:
        restore_splitting(tokenizer, str(_value(reader, _SPLITTING)))
    ends = [int(_value(reader, key)) for key in _ENDS if key in reader.fields]
    if ends:
        model.generation_config.eos_token_id = list(dict.fromkeys(ends))
    return model, tokenizer


def _config(file: Path, reader: Any) -> Any:
    """Read the model's configuration, with what Transformers' reader leaves at its defaults."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    size = f"{_value(reader, 'general.architecture')}.attention.key_length"
    if size in reader.fields and hasattr(config, "head_dim"):
        config.head_dim = int(_value(reader, size))
    if "blk.0.attn_q.bias" in {t.name for t in reader.tensors} and hasattr(
        config, "attention_bias"
    ):
        config.attention_bias = True
    return config


def _unpacked() -> dict[str, Any]:
    """Ask for dense weights: Transformers keeps them packed otherwise, or knows no other way."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _value(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def _restore_rotation(model: Any, reader: Any) -> None:
    """Put back Llama 3's stretched rotation, which files hold as factors and no reader restores."""
    tensor = next((t for t in reader.tensors if t.name == _ROTATION), None)
    if tensor is None:
        return
    factors = torch.from_numpy(tensor.data.copy()).float()
    config = model.config.get_text_config()
    if bool((factors == 1).all()):
        return
    plain = dict(config.rope_parameters)
    stretched = plain | _LLAMA3 | {"rope_type": "llama3", "factor": float(factors.max())}
    config.rope_parameters = stretched
    rotation = type(model.model.rotary_emb)(config=config)
    steps = torch.arange(0, 2 * len(factors), 2).float() / (2 * len(factors))
    wanted = float(plain["rope_theta"]) ** -steps / factors
    if not torch.allclose(rotation.inv_freq.float(), wanted, rtol=1e-3):
        raise ValueError("its positions are stretched in a way that is not Llama 3's")
    model.model.rotary_emb = rotation


def _restore_spaces(tokenizer: Any, reader: Any) -> None:
    """Put no space before a text where the file says so; Transformers puts one all the same."""
    from tokenizers import decoders, pre_tokenizers

    key, backend = "tokenizer.ggml.add_space_prefix", tokenizer.backend_tokenizer
    metaspace = isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace)
    if metaspace and key in reader.fields and not _value(reader, key):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
