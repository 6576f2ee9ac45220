"""Requests and variants that come and go in any order: every answer is one variant's, whole."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.flows.serve import EngineOptions
from kamerton.flows.served_engine import open_engine
from tests.e2e.speakers import make_speakers

KINDS = {
    "anna": ("adapter.rank=2", "train.learning_rate=0.01"),
    "boris": ("adapter.dora=true", "adapter.rank=2", "train.learning_rate=0.01"),
    "clara": ("adapter.kind=prefix", "adapter.num_virtual_tokens=4", "train.learning_rate=0.1"),
}
QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
NAMES = st.sampled_from(sorted(KINDS))


class Switching(RuleBasedStateMachine):
    """An engine with few slots and little memory, and what it owes to whom."""

    def __init__(self, project: Path, alone: str) -> None:
        super().__init__()
        options = EngineOptions(
            ("builtin:nano",), project, dtype="float32", num_slots=3, tokens_per_step=16,
            limit_bytes=400_000,
        )  # fmt: skip
        self.engine = open_engine(options, lambda notice: None)
        self.project, self.alone, self.count = project, alone, 0
        self.hashes: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.owed: dict[str, str] = {}

    @rule(name=NAMES)
    def load(self, name: str) -> None:
        model = self.engine.variants.load(str(self.project / "variants" / name))
        self.hashes[name] = model.content_hash

    @precondition(lambda self: self.hashes)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.hashes)))
        self.engine.variants.release(self.hashes.pop(name))

    @rule(name=NAMES | st.just("builtin:nano"))
    def ask(self, name: str) -> None:
        self.count += 1
        key = str(self.count)
        artefact = self.hashes.get(name, "")
        request = AnswerRequest(key, name, Generation(max_tokens=8), QUESTION, artefact=artefact)
        refused = self.engine.add(request)
        assert bool(refused) == (name in KINDS and name not in self.hashes)
        if not refused:
            self.said[key] = ""
            self.owed[key] = name if name in KINDS else self.alone

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.said)))
        self.engine.cancel(key)
        del self.said[key], self.owed[key]

    @rule()
    def step(self) -> None:
        self.take(self.engine.step())

    def take(self, updates: list[AnswerUpdate]) -> None:
        for update in updates:
            assert not update.error
            self.said[update.id] += update.text
            if update.is_last:
                assert self.said.pop(update.id) == self.owed.pop(update.id)

    @invariant()
    def what_is_held_is_what_is_named_or_used(self) -> None:
        held = self.engine.variants.describe()
        named = {one.content_hash for one in held if not one.is_leaving}
        assert named == {*self.hashes.values(), self.engine._base.identity.weight_hash}
        assert all(one.num_requests for one in held if one.is_leaving)
        assert sum(one.num_requests for one in held) == len(self.said)

    def teardown(self) -> None:
        while not self.engine.is_idle:
            self.take(self.engine.step())
        assert not self.said
        for content_hash in self.hashes.values():
            self.engine.variants.release(content_hash)
        assert self.engine.variants.num_bytes == 0
        assert not self.engine._base.segment_adapters


@pytest.mark.slow
def test_whatever_comes_and_goes_each_answer_is_one_variant_s(tmp_path: Path) -> None:
    make_speakers(tmp_path, KINDS)
    options = EngineOptions(("builtin:nano",), tmp_path, dtype="float32")
    engine = open_engine(options, lambda notice: None)
    engine.add(AnswerRequest("a", "builtin:nano", Generation(max_tokens=8), QUESTION))
    alone = ""
    while not engine.is_idle:
        alone += "".join(update.text for update in engine.step())
    run_state_machine_as_test(
        lambda: Switching(tmp_path, alone),
        settings=settings(
            max_examples=8, stateful_step_count=30, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
