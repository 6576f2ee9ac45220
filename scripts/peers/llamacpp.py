"""What llama.cpp computes from the GGUF files that `tests/parity/test_llamacpp.py` wrote.

    python scripts/peers/llamacpp.py FOLDER

Runs in an environment of its own with `llama-cpp-python` and `safetensors`; `make llamacpp` does
all of it. Prints the largest difference of a logit for each base and each LoRA, and texts that are
read as other tokens; exits with 1 if something differs.
"""

import json
import sys
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from safetensors.numpy import load_file

TOLERANCE = 2e-3
"""Share of the largest logit: llama.cpp rounds some products to fewer bits."""
_F32 = 0


def logits(folder: Path, ids: list[int], lora: str | None = None) -> np.ndarray:
    """Logits of llama.cpp for the ids, [T, V]."""
    model = Llama(
        str(folder / "base.gguf"),
        lora_path=lora,
        logits_all=True,
        n_ctx=len(ids),
        n_threads=1,
        type_k=_F32,
        type_v=_F32,
        verbose=False,
    )
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def other_tokens(folder: Path) -> list[str]:
    """Texts that llama.cpp reads as other tokens than Transformers."""
    texts = json.loads((folder / "texts.json").read_text())
    model = Llama(str(folder / "base.gguf"), vocab_only=True, verbose=False)
    return [
        text
        for text, ids in texts.items()
        if model.tokenize(text.encode(), add_bos=True, special=True) != ids
    ]


def main() -> None:
    failed = False
    for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        wanted = load_file(folder / "wanted.st")
        ids = wanted["ids"].tolist()
        for name, lora in (("base", None), ("lora", str(folder / "lora.gguf"))):
            found = logits(folder, ids, lora)
            largest = float(np.abs(found - wanted[name]).max())
            scale = float(np.abs(wanted[name]).max())
            ok = largest <= TOLERANCE * scale
            failed |= not ok
            print(f"{folder.name} {name}: logits differ by {largest:.2e} of {scale:.1f}"
                  f"{'' if ok else '  <-- too much'}")  # fmt: skip
        for text in other_tokens(folder):
            failed = True
            print(f"{folder.name}: {text!r} is read as other tokens")
    sys.exit(failed)


if __name__ == "__main__":
    main()
