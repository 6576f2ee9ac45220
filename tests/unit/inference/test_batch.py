"""A call of the embedded engine has a batch of its own, which is bounded and goes with it."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.adapters.catalogue import AdapterSettings, attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.inference.batch import Batch
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.attention.layout import Layout
from tests.shapes import tiny_base, tiny_renderer

FREE = Generation(max_tokens=20, temperature=1.0, seed=7)
PROMPTS = [[5, 6, *range(10, 10 + length)] for length in (9, 30, 3, 17, 24, 8, 12, 40, 1, 33)]
CHATS = [[{"role": "user", "content": f"w{number} w{number + 1}"}] for number in range(5, 11)]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Batch]]:
    """The batches that are made, as long as they live."""
    made: list[weakref.ref[Batch]] = []

    class Seen(Batch):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            made.append(weakref.ref(self))

        def step(self) -> list[Any]:
            updates = super().step()
            assert len(self.scheduler.running) <= 3
            assert {len(keys) for keys in self.cache.keys.values()} <= {1, 2, 3}
            return updates

    monkeypatch.setattr("kamerton.inference.engine.Batch", Seen)
    return made


def test_slots_are_bounded_and_given_back_after_a_call(batches) -> None:
    base = tiny_base("llama")
    engine = EmbeddedEngine(base, tiny_renderer(base), max_batch=3)
    gc.disable()
    try:
        assert all(sample.ids for sample in engine.sample(PROMPTS, FREE))
        assert list(engine.stream(CHATS, FREE))
        events: Iterator[Any] = engine.stream(CHATS, FREE)
        next(events)
        assert [batch() is None for batch in batches] == [True, True, False]
        # Who asked does not wait for the end.
        del events
        assert [batch() is None for batch in batches] == [True] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "settings", [LoraSettings(rank=4), PrefixSettings(num_virtual_tokens=5, init="random")]
)
def test_an_adapter_may_learn_between_calls(settings: AdapterSettings) -> None:
    base = tiny_base("llama")
    adapter = attach(base, settings, seed=0)
    engine = EmbeddedEngine(base, tiny_renderer(base))
    seen = []
    for step in range(3):
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in adapter.parameters().values():
                parameter += torch.randn_like(parameter) * 0.3
        found = engine.sample(PROMPTS, FREE)
        assert found == EmbeddedEngine(base, tiny_renderer(base)).sample(PROMPTS, FREE)
        seen.append([sample.ids for sample in found])
    assert seen[0] != seen[1] != seen[2]


def test_what_prompts_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base("llama")
    engine = EmbeddedEngine(base, tiny_renderer(base), max_batch=5)
    sizes: list[int] = []
    hidden = base.hidden

    def listening(ids: Tensor, layout: Layout) -> Tensor:
        sizes.append(len(ids))
        return hidden(ids, layout)

    monkeypatch.setattr(base, "hidden", listening)
    found = engine.sample([list(range(10, 50))] * 4, FREE)
    # The last token of the prompt is each answer's own.
    assert sizes[:2] == [40, 1 + 3]
    assert sum(sizes) == 40 + 3 + sum(len(sample.ids) - 1 for sample in found)


@pytest.mark.parametrize("ragged", [True, False])
def test_probabilities_that_are_not_finite_are_an_error(
    ragged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base("llama")
    base.ragged = ragged
    engine = EmbeddedEngine(base, tiny_renderer(base))
    with torch.no_grad():
        base.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite") as caught:
        engine.sample(PROMPTS, FREE)
    assert "float32" in caught.value.hint
    with pytest.raises(ModelError, match="not finite"):
        list(engine.stream(CHATS, FREE))
