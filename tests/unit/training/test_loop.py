"""The loop: accumulation, resume, guards, early stopping, shrinking rows."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kamerton.adapters.lora.lora import Lora, LoraSettings, attach_lora
from kamerton.core.errors import InterruptedRun, NotFiniteError, TrainingError
from kamerton.core.events import (
    Event,
    Forecast,
    HoldoutMeasured,
    Notice,
    Progress,
    RunStarted,
    StepDone,
)
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.renderer import TokenizedExample
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.models.base import Base
from kamerton.objectives.sft import Sft
from kamerton.training import loop, preflight, scoring
from kamerton.training.forecast import Pace, is_known, seconds_left
from kamerton.training.loop import CHECKPOINT_FILE, train
from kamerton.training.plan import plan_epoch
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Outcome, Task
from tests.shapes import VOCABULARY, tiny_base


def examples(count: int, seed: int = 0) -> list[TokenizedExample]:
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(random.integers(4, 20))
        ids = random.integers(3, VOCABULARY, length).astype(np.int32)
        loss_mask = np.zeros(length, bool)
        loss_mask[length // 2 :] = True
        made.append(TokenizedExample(ids, loss_mask, SourceLocation("made.jsonl", number + 1)))
    return made


class Runs:
    """Runs a small task, each time from a fresh base, and keeps the events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.base: Base | None = None
        self.lora: Lora | None = None

    def __call__(self, settings: TrainSettings, should_stop=lambda: False, **task) -> Outcome:
        self.events = []
        self.base = tiny_base(task.pop("shape", "llama"))
        lora = attach_lora(self.base, task.pop("lora", LoraSettings(rank=4)), seed=settings.seed)
        self.lora = lora
        made = Task(
            name="run", base=self.base, adapter=lora, objective=Sft(),
            train=task.pop("train", examples(24)), holdout=task.pop("holdout", ()),
            settings=settings, folder=self.folder, identity=task.pop("identity", "same"),
        )  # fmt: skip
        assert not task
        outcome = train(made, self.events.append, should_stop)
        self.weights = {name: p.detach().clone() for name, p in lora.parameters().items()}
        return outcome

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


SMALL = TrainSettings(
    epochs=3, tokens_per_step=64, learning_rate=5e-3, warmup=0.03, threads=1, checkpoint_every_s=0
)

FORMS = ({}, {"dora": True}, {"lora_plus_ratio": 8.0}, {"init": "pissa"})
"""Forms of LoRA that start, learn or step in another way."""


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls(runs: Runs) -> None:
    runs(SMALL.model_copy(update={"epochs": 20, "checkpoint_every_s": 99}))
    losses = [event.loss for event in runs.of(StepDone)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_accumulation_equals_the_large_batch(runs: Runs, tmp_path: Path) -> None:
    """Rows of any size lead to the same gradient, although their lengths differ."""
    runs(SMALL.model_copy(update={"epochs": 1, "tokens_per_step": 200}))
    one = [event.loss for event in runs.of(StepDone)], runs.weights
    (tmp_path / CHECKPOINT_FILE).unlink()
    runs(SMALL.model_copy(update={"epochs": 1, "tokens_per_step": 200, "tokens_per_row": 20}))
    many = [event.loss for event in runs.of(StepDone)], runs.weights
    assert one[0] == pytest.approx(many[0], rel=1e-5)
    for name, weight in one[1].items():
        torch.testing.assert_close(weight, many[1][name], rtol=1e-3, atol=1e-5)


def test_the_loss_is_the_mean_over_tokens(runs: Runs) -> None:
    rows = examples(6)
    runs(SMALL.model_copy(update={"max_steps": 1, "tokens_per_step": 999}), train=rows)
    (step,) = runs.of(StepDone)
    base = tiny_base("llama")
    total, count = 0.0, 0
    with torch.no_grad(), base.attention("eager"):
        for row in rows:
            ids = torch.from_numpy(row.ids.astype(np.int64))
            logprobs = base.model(input_ids=ids[None]).logits[0].log_softmax(-1)
            for at in np.flatnonzero(row.loss_mask):
                total -= float(logprobs[at - 1, ids[at]])
                count += 1
    assert step.loss == pytest.approx(total / count, rel=1e-5)
    assert step.num_labelled == count


@pytest.mark.parametrize("stop_after", [1, 4, 9])
@pytest.mark.parametrize("lora", FORMS, ids=lambda form: ",".join(form) or "lora")
def test_a_stopped_run_ends_with_the_same_bits(runs, tmp_path: Path, stop_after, lora) -> None:
    settings = SMALL.model_copy(update={"patience": 0})
    lora = LoraSettings(rank=4, dropout=0.2, **lora)
    whole = runs(settings, holdout=examples(5, seed=9), lora=lora)
    undisturbed = runs.weights
    (tmp_path / CHECKPOINT_FILE).unlink()

    def reached() -> bool:
        return len(runs.of(StepDone)) >= stop_after

    with pytest.raises(InterruptedRun):
        runs(settings, reached, holdout=examples(5, seed=9), lora=lora)
    resumed = runs(settings, holdout=examples(5, seed=9), lora=lora)
    assert runs.of(RunStarted)[0].first_step == stop_after
    assert same(runs.weights, undisturbed)
    assert (resumed.kept_step, resumed.holdout_loss) == (whole.kept_step, whole.holdout_loss)


def test_a_run_stops_within_a_measurement(runs: Runs, tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"tokens_per_row": 20})
    held = examples(9, seed=9)
    whole = runs(settings, holdout=held)
    undisturbed, losses = runs.weights, [event.loss for event in runs.of(HoldoutMeasured)]
    end = runs.of(HoldoutMeasured)[0].step
    (tmp_path / CHECKPOINT_FILE).unlink()
    passes: list[int] = []

    def within() -> bool:
        """Pressed before the third forward pass of the first measurement."""
        if len(runs.of(StepDone)) == end:
            passes.append(end)
        return len(passes) >= 3

    with pytest.raises(InterruptedRun, match=f"stopped after step {end} of .*; the state is saved"):
        runs(settings, within, holdout=held)
    assert len(passes) == 3
    assert runs.of(HoldoutMeasured) == []
    # What goes on measures first, and nothing of the run is otherwise.
    resumed = runs(settings, holdout=held)
    assert [event.loss for event in runs.of(HoldoutMeasured)] == losses
    assert same(runs.weights, undisturbed)
    assert resumed.holdout_loss == whole.holdout_loss


def test_the_time_left_is_forecast_once(runs: Runs) -> None:
    runs(SMALL, holdout=examples(5, seed=9))
    (forecast,) = runs.of(Forecast)
    assert forecast.step == 4
    assert forecast.seconds > 0
    assert forecast.peak_bytes > 1 << 20


def test_steps_say_which_share_of_the_work_is_done(runs: Runs) -> None:
    held = examples(5, seed=9)
    runs(SMALL, holdout=held)
    shares = [event.share for event in runs.of(StepDone)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    steps = runs.of(StepDone)
    before = next(
        n for n, step in enumerate(steps) if step.step == runs.of(HoldoutMeasured)[0].step
    )
    learned = sum(step.num_tokens for step in steps)
    times, measured = len(runs.of(HoldoutMeasured)), sum(map(num_tokens, held)) / 3
    work = sum(step.num_tokens for step in steps[: before + 1]) + measured
    assert shares[before] == pytest.approx(work / (learned + times * measured))


def test_a_measurement_says_how_far_it_is(runs: Runs) -> None:
    held = examples(9, seed=9)
    runs(SMALL.model_copy(update={"tokens_per_row": 20, "epochs": 1}), holdout=held)
    told = [event for event in runs.of(Progress) if "held-out" in event.task]
    total = sum(map(num_tokens, held))
    assert {event.total for event in told} == {total}
    done = [event.done for event in told]
    assert done[0] == 0
    assert done[-1] == total
    assert done == sorted(done)
    assert len(set(done)) > 3


def test_a_forecast_scales_with_tokens() -> None:
    # The first step is slower than those to come.
    paces = [Pace(100, 9.0), Pace(100, 1.0), Pace(300, 3.0)]
    assert seconds_left(paces, 1000) == pytest.approx(10.0)
    assert seconds_left(paces[:1], 100) == pytest.approx(9.0)
    assert not is_known(paces)
    assert is_known([Pace(100, 40.0)])
    assert is_known([Pace(100, 9.0), Pace(100, 11.0)])


def test_tensors_learn_as_fast_as_the_adapter_says(runs: Runs) -> None:
    """AdamW's first step is as long as the learning rate, whatever the gradient."""
    settings = SMALL.model_copy(update={"max_steps": 1, "warmup": 0.0, "schedule": "constant"})
    runs(settings, lora=LoraSettings(rank=4, lora_plus_ratio=8.0, dora=True))
    fresh = attach_lora(tiny_base("llama"), LoraSettings(rank=4, dora=True), SMALL.seed)
    for name, before in fresh.parameters().items():
        moved = float((runs.weights[name] - before.detach()).abs().max())
        # A has no gradient while B is zero.
        expected = 0.0 if "lora_A" in name else 5e-3 * (8 if "lora_B" in name else 1)
        assert moved == pytest.approx(expected, rel=1e-2), name


def test_a_finished_run_is_not_run_again(runs: Runs) -> None:
    runs(SMALL)
    before = runs.weights
    runs(SMALL)
    assert runs.of(StepDone) == []
    assert any("this run is finished" in event.message for event in runs.of(Notice))
    assert same(runs.weights, before)


def test_what_differs_from_the_checkpoint_is_named(runs: Runs) -> None:
    old, new = ({"train": {"seed": seed, "max_grad_norm": 1.0}, "data": {}} for seed in (1, 2))
    runs(SMALL.model_copy(update={"max_steps": 1}), identity=json.dumps(old))
    with pytest.raises(TrainingError, match=r"train\.seed: 1, now 2") as raised:
        runs(SMALL, identity=json.dumps(new))
    assert "max_grad_norm" not in raised.value.message


def test_the_holdout_is_measured_at_the_ends_of_epochs(runs: Runs) -> None:
    few = SMALL.model_copy(update={"max_steps": 10, "checkpoint_every_s": 99})
    lengths = [len(r.ids) for r in examples(24)]
    ends = [len(plan_epoch(lengths, few, epoch)) for epoch in range(3)]
    assert ends[0] < 10 < sum(ends)
    runs(few, holdout=examples(4, seed=5))
    expected = [n for n in itertools.accumulate(ends) if n < 10] + [10]
    assert [event.step for event in runs.of(HoldoutMeasured)] == expected


def test_few_steps_are_said(runs: Runs, tmp_path: Path) -> None:
    runs(SMALL.model_copy(update={"max_steps": 3, "checkpoint_every_s": 99}))
    assert any("3 optimiser steps teach little" in event.message for event in runs.of(Notice))
    (tmp_path / CHECKPOINT_FILE).unlink()
    runs(SMALL.model_copy(update={"epochs": 40, "checkpoint_every_s": 99}))
    assert not any("optimiser steps" in event.message for event in runs.of(Notice))


def test_a_checkpoint_of_another_run_is_refused(runs: Runs) -> None:
    runs(SMALL.model_copy(update={"max_steps": 1}))
    with pytest.raises(TrainingError, match="other settings"):
        runs(SMALL, identity="another")


def test_a_damaged_checkpoint_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"\x00" * 100)
    with pytest.raises(TrainingError, match="damaged"):
        runs(SMALL)


def test_early_stopping_keeps_the_best(runs: Runs) -> None:
    settings = SMALL.model_copy(
        update={"epochs": 60, "learning_rate": 0.03, "patience": 2, "evaluate_every": 4}
    )
    outcome = runs(settings, holdout=examples(8, seed=5))
    measured = runs.of(HoldoutMeasured)
    assert outcome.reason == "early stop"
    assert outcome.num_steps < 60 * 5
    best = min(measured, key=lambda event: event.loss)
    assert (outcome.kept_step, outcome.holdout_loss) == (best.step, best.loss)
    again = runs(settings, holdout=examples(8, seed=5))
    assert again.num_steps == outcome.num_steps


def test_a_kill_between_best_weights_and_checkpoint_changes_nothing(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL.model_copy(update={"evaluate_every": 2})
    held = examples(5, seed=9)
    whole = runs(settings, holdout=held)
    undisturbed = runs.weights
    assert len(list(tmp_path.glob("best-*"))) == 1
    (tmp_path / CHECKPOINT_FILE).unlink()
    real, saved = loop.save_checkpoint, []

    def killed(path, checkpoint):
        saved.append(checkpoint.counters.step)
        if len(saved) == 4:
            raise KeyboardInterrupt
        real(path, checkpoint)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            runs(settings, holdout=held)
    # Those of the last checkpoint, and those that the next one would have named.
    assert {path.stem for path in tmp_path.glob("best-*")} == {"best-2", "best-4"}
    resumed = runs(settings, holdout=held)
    assert runs.of(RunStarted)[0].first_step == 3
    assert same(runs.weights, undisturbed)
    assert (resumed.kept_step, resumed.holdout_loss) == (whole.kept_step, whole.holdout_loss)


def test_best_weights_that_are_gone_are_said(runs: Runs, tmp_path: Path) -> None:
    runs(SMALL, holdout=examples(5, seed=9))
    for path in tmp_path.glob("best-*"):
        path.unlink()
    with pytest.raises(TrainingError, match="best weights so far"):
        runs(SMALL, holdout=examples(5, seed=9))


def contradicting(count: int) -> list[TokenizedExample]:
    """What is learned from `examples` with other answers: learning makes their loss rise."""
    made = []
    for one in examples(count):
        ids = one.ids.copy()
        ids[one.loss_mask] = 3 + (ids[one.loss_mask] - 2) % (VOCABULARY - 3)
        made.append(TokenizedExample(ids, one.loss_mask, one.location))
    return made


def test_the_last_weights_come_with_their_own_loss(runs: Runs) -> None:
    settings = SMALL.model_copy(
        update={"learning_rate": 0.05, "epochs": 5, "keep": "last", "schedule": "constant"}
    )
    outcome = runs(settings, holdout=contradicting(8))
    losses = [event.loss for event in runs.of(HoldoutMeasured)]
    assert outcome.holdout_loss == losses[-1] > min(losses)
    assert runs(settings, holdout=contradicting(8)).holdout_loss == losses[-1]


def test_nan_never_reaches_the_weights(runs: Runs, monkeypatch) -> None:
    class Broken(Sft):
        def loss(self, scored, num_units):
            share = super().loss(scored, num_units)
            return type(share)(share.value * float("nan"))

    monkeypatch.setattr("tests.unit.training.test_loop.Sft", Broken)
    with pytest.raises(NotFiniteError, match=r"made\.jsonl:\d+"):
        runs(SMALL)
    assert runs.lora is not None
    fresh = attach_lora(tiny_base("llama"), LoraSettings(rank=4), seed=SMALL.seed)
    assert same(dict(runs.lora.parameters()), dict(fresh.parameters()))


def test_out_of_memory_shrinks_the_rows_only(runs: Runs, tmp_path: Path, monkeypatch) -> None:
    runs(SMALL)
    undisturbed = runs.weights
    (tmp_path / CHECKPOINT_FILE).unlink()
    real, limit = scoring.make_rows, 40

    def tight(rendered, tokens_per_row, device, **asked):
        if tokens_per_row > limit and sum(len(r.ids) for r in rendered) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(rendered, tokens_per_row, device, **asked)

    monkeypatch.setattr(scoring, "make_rows", tight)
    runs(SMALL)
    notices = [event.message for event in runs.of(Notice) if "memory" in event.message]
    assert any("out of memory: rows of" in message for message in notices)
    assert all("effective batch stays the same" in message for message in notices)
    for name, weight in undisturbed.items():
        torch.testing.assert_close(weight, runs.weights[name], rtol=5e-3, atol=5e-5)


def test_hopeless_memory_is_an_error(runs: Runs, monkeypatch) -> None:
    def never(rendered, tokens_per_row, device, **asked):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scoring, "make_rows", never)
    with pytest.raises(TrainingError, match="one example of"):
        runs(SMALL)


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gpt2"])
def test_recomputation_changes_memory_not_results(runs: Runs, tmp_path: Path, shape) -> None:
    lora = LoraSettings(rank=4, dropout=0.3)
    runs(SMALL.model_copy(update={"gradient_checkpointing": "none"}), shape=shape, lora=lora)
    kept = runs.weights
    (tmp_path / CHECKPOINT_FILE).unlink()
    runs(SMALL.model_copy(update={"gradient_checkpointing": "all"}), shape=shape, lora=lora)
    for name, weight in kept.items():
        torch.testing.assert_close(weight, runs.weights[name], rtol=1e-4, atol=1e-6)


def test_a_wrong_ragged_path_falls_back(runs: Runs, monkeypatch) -> None:
    real = Base.hidden

    def wrong(self, ids, layout):
        hidden = real(self, ids, layout)
        return hidden * 1.5 if self.ragged else hidden

    monkeypatch.setattr(Base, "hidden", wrong)
    runs(SMALL.model_copy(update={"max_steps": 1}))
    assert any("falling back to padded rows" in event.message for event in runs.of(Notice))
    assert runs.base is not None
    assert not runs.base.ragged


def test_padded_rows_train_the_same(runs: Runs, tmp_path: Path, monkeypatch) -> None:
    runs(SMALL)
    ragged = runs.weights
    (tmp_path / CHECKPOINT_FILE).unlink()
    real = tiny_base

    def unsupported(shape):
        base = real(shape)
        base.model.set_attn_implementation("sdpa")
        return Base(base.model, None, base.identity, ragged=False, notice="made for a test")

    monkeypatch.setattr("tests.unit.training.test_loop.tiny_base", unsupported)
    runs(SMALL)
    assert any("made for a test" in event.message for event in runs.of(Notice))
    for name, weight in ragged.items():
        torch.testing.assert_close(weight, runs.weights[name], rtol=5e-3, atol=5e-5)


def test_nothing_to_train_is_an_error(runs: Runs) -> None:
    with pytest.raises(TrainingError, match="no example"):
        runs(SMALL, train=[])


def test_gradients_and_states_count_before_the_rows(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows get what is left: of 12 bytes a trained number none are there before the first step."""
    settings = SMALL.model_copy(update={"max_steps": 1})
    runs(settings)
    facts = runs.of(RunStarted)[0].facts
    needed = facts["optimiser_bytes"]
    assert needed == 12 * facts["trainable"]
    rows = 2 * facts["activation_bytes_per_row"]
    for free, recomputed in ((needed + rows, False), (needed + rows // 2, True), (100, True)):
        (tmp_path / CHECKPOINT_FILE).unlink()
        monkeypatch.setattr(preflight, "free_bytes", lambda device, free=free: free)
        runs(settings)
        said = [event.message for event in runs.of(Notice)]
        assert any("recomputing" in message for message in said) is recomputed
        assert any("will take" in message for message in said) is (free == 100)


def test_no_room_for_states_is_an_error(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self, closure=None):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(TrainingError, match="optimiser's step") as raised:
        runs(SMALL)
    assert "apollo" in str(raised.value.hint)
