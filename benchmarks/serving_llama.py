"""llama.cpp for `serving.py`, in an environment of its own with llama-cpp-python.

    python serving_llama.py FILE.gguf q8_0 16 1

Reads a line of JSON, prompts and the number of tokens, and writes one: seconds to the first
token of all and between the steps, of the processor. All requests are one batch in every step;
the likeliest token goes on, and nothing ends early.
"""

import ctypes
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

_FORMS = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
_CONTEXT = 256


def converted(file: str, form: str, folder: str) -> bytes:
    """Write the model with its weights in another form."""
    target = str(Path(folder) / "model.gguf").encode()
    options = llama.llama_model_quantize_default_params()
    options.ftype, options.nthread, options.allow_requantize = _FORMS[form], 1, True
    assert not llama.llama_model_quantize(file.encode(), target, ctypes.byref(options))
    return target


def opened(file: bytes, most: int, threads: int) -> tuple[Any, int]:
    model = llama.llama_model_load_from_file(file, llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_seq_max = _CONTEXT * most, 8192, most
    options.n_threads = options.n_threads_batch = threads
    options.kv_unified = False
    context = llama.llama_init_from_model(model, options)
    return context, llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))


def decoded(context: Any, size: int, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
    """Compute tokens (id, position, request, whether another follows); give the following ones."""
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for at, (token, position, request, is_last) in enumerate(tokens):
        batch.token[at], batch.pos[at] = token, position
        batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, request, is_last
    assert llama.llama_decode(context, batch) == 0
    found = []
    for at, token in enumerate(tokens):
        if token[3]:
            logits = llama.llama_get_logits_ith(context, at)
            found.append(int(np.ctypeslib.as_array(logits, shape=(size,)).argmax()))
    llama.llama_batch_free(batch)
    return found


def answer(context: Any, size: int, prompts: list[list[int]], num_tokens: int) -> dict[str, Any]:
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    before, gaps = time.process_time(), list[float]()
    whole = [
        (token, at, request, at == len(prompt) - 1)
        for request, prompt in enumerate(prompts)
        for at, token in enumerate(prompt)
    ]
    tokens = decoded(context, size, whole)
    times = [time.process_time()]
    for step in range(num_tokens - 1):
        tokens = decoded(
            context, size, [(t, len(prompts[n]) + step, n, True) for n, t in enumerate(tokens)]
        )
        times.append(time.process_time())
    gaps = [after - earlier for earlier, after in itertools.pairwise(times)]
    return {"first": times[0] - before, "gaps": gaps}


def main() -> None:
    file, form, most, threads = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        context, size = opened(converted(file, form, folder), int(most), int(threads))
        for line in sys.stdin:
            prompts, num_tokens = json.loads(line)
            print(json.dumps(answer(context, size, prompts, num_tokens)), flush=True)


if __name__ == "__main__":
    main()
