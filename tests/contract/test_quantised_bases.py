"""The adapters' suite once more over quantised bases, for the methods that declare them."""

import inspect
from collections.abc import Callable
from functools import partial

import pytest

from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError
from kamerton.models.quantised.codecs import CODECS
from tests.contract import test_adapters as suite
from tests.shapes import tiny_base

CHECKS = [
    check
    for name, check in vars(suite).items()
    if name.startswith("test_")
    and list(inspect.signature(check).parameters) == ["method", "shape"]
    # It takes the base that is wrong for the adapter.
    and check is not suite.test_another_base_is_a_typed_error
]
TAKING = [
    method
    for method in suite.METHODS
    if suite.attach_to(tiny_base("llama"), method()).capabilities.quantised_base
]
OTHERS = [method for method in suite.METHODS if method not in TAKING]
# These are for quantised bases only.
DECLARED = [*TAKING, partial(LoraSettings, init="loftq")]


def name(method: partial) -> str:
    return "-".join([method().kind, *method.keywords])


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("shape", suite.SHAPES)
@pytest.mark.parametrize("method", DECLARED, ids=name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
def test_it_holds(check: Callable, method: partial, shape: str, kind: str) -> None:
    check(method, f"{shape}:{kind}")


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("method", OTHERS, ids=name)
def test_the_others_refuse(method: partial, kind: str) -> None:
    base = tiny_base("llama", quantise=kind)
    before = suite.snapshot(base)
    with pytest.raises(AdapterError, match="base.quantise|quantised|holds"):
        suite.attach_to(base, method())
    assert suite.same(suite.snapshot(base), before)


def test_the_suite_is_as_large_as_it_should_be() -> None:
    assert suite.SHAPES == ("llama", "qwen3", "gemma3", "gpt2")
    assert set(CODECS) == {"nf4", "int8"}
    assert {method().kind for method in suite.METHODS} == {kind().kind for kind in suite.KINDS}
    # A new method, form or check raises these; nothing may lower them. They make 9 x 17 x 4 checks
    # over dense bases and 9 x 15 x 4 x 2 over quantised ones.
    assert (len(CHECKS), len(suite.METHODS), len(DECLARED), len(OTHERS)) == (9, 17, 15, 3)
