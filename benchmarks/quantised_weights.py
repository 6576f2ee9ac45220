"""Quantised linear layers: ours beside bitsandbytes (needs `pip install bitsandbytes`).

    python benchmarks/quantised_weights.py [--size 4096] [--inner 4096] [--tokens 1024] [--record]

Times are medians over alternating runs in one process. Errors are relative Frobenius norms: of the
weight against the original, of y = x W^T and of its gradient by x against the dense layer in fp32.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from record import header, write
from torch import Tensor, nn

from kamerton.models.quantised.codecs import CODECS
from kamerton.models.quantised.layer import quantise_layer


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def layers(weight: Tensor) -> dict[str, Callable[[], nn.Module]]:
    """Makers of every layer to compare, each from the same weight."""
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    dense.weight = nn.Parameter(weight, requires_grad=False)
    found: dict[str, Callable[[], nn.Module]] = {"dense": lambda: dense}
    for kind in CODECS:
        found[f"{kind}, ours"] = partial(quantise_layer, dense, weight, kind)
    if find_spec("bitsandbytes"):
        import bitsandbytes as bnb

        def four() -> nn.Module:
            layer = bnb.nn.Linear4bit(
                *weight.shape[::-1], bias=False, compute_dtype=weight.dtype, quant_type="nf4",
                compress_statistics=True,
            )  # fmt: skip
            layer.weight = bnb.nn.Params4bit(
                weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            return layer.to("cpu")

        def eight() -> nn.Module:
            layer = bnb.nn.Linear8bitLt(*weight.shape[::-1], bias=False, has_fp16_weights=False)
            layer.weight = bnb.nn.Int8Params(
                weight.clone(), requires_grad=False, has_fp16_weights=False
            )
            return layer.to("cpu")

        found |= {"nf4, bitsandbytes": four, "int8, bitsandbytes": eight}
    return found


def one_run(
    layer: nn.Module, x: Tensor, grad: Tensor
) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """Seconds of forward, backward and a forward of one token; the output and the gradient."""
    started = time.perf_counter()
    y = layer(x)
    forward = time.perf_counter()
    (grad_x,) = torch.autograd.grad(y, x, grad)
    backward = time.perf_counter()
    with torch.no_grad():
        layer(x[:1])
    took = {
        "forward ms": forward - started,
        "backward ms": backward - forward,
        "one token ms": time.perf_counter() - backward,
    }
    return took, (y.detach(), grad_x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--inner", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--record", action="store_true", help="write a result file")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    weight = (torch.randn(options.size, options.inner) * 0.02).bfloat16()
    x = torch.randn(options.tokens, options.inner).bfloat16().requires_grad_()
    grad = torch.randn(options.tokens, options.size).bfloat16()
    wanted_y, wanted_grad = x.detach().float() @ weight.float().t(), grad.float() @ weight.float()

    made, times = {}, {}
    for name, make in layers(weight).items():
        started = time.perf_counter()
        made[name] = make()
        times[name] = {"quantise ms": [(time.perf_counter() - started) * 1e3] * 2}
    outputs = {}
    for _ in range(options.runs + 1):
        for name, layer in made.items():
            took, outputs[name] = one_run(layer, x, grad)
            for key, value in took.items():
                times[name].setdefault(key, []).append(value * 1e3)
    lines = []
    for name, kept in times.items():
        # The first run of each warms up.
        numbers = {key: statistics.median(values[1:]) for key, values in kept.items()}
        numbers["error of y"] = error(outputs[name][0], wanted_y)
        numbers["error of grad"] = error(outputs[name][1], wanted_grad)
        if not lines:
            lines += [f"| layer | {' | '.join(numbers)} |", "| --- |" + " --- |" * len(numbers)]
        lines.append(f"| {name} | {' | '.join(f'{value:.3g}' for value in numbers.values())} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if options.record:
        print(write("quantised_weights", header("Quantised linear layers") + table))


if __name__ == "__main__":
    main()
