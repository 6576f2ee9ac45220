"""Who takes part in a step, without any model."""

from hypothesis import given
from hypothesis import strategies as st

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest
from kamerton.inference.request_state import RequestState
from kamerton.inference.scheduler import Scheduler


def asked(name: str, num_prompt: int, num_most: int = 100) -> RequestState:
    request = AnswerRequest(name, "base", Generation())
    return RequestState(request, list(range(num_prompt)), num_prompt, num_most)


def compute(scheduler: Scheduler) -> list[tuple[str, int]]:
    """Do what the engine does in a step, with token 7 as every choice."""
    scheduler.admit()
    chunks = scheduler.schedule()
    done = [(chunk.state.request.id, chunk.num_tokens) for chunk in chunks]
    for chunk in chunks:
        chunk.state.num_computed += chunk.num_tokens
        if not chunk.state.num_left:
            chunk.state.ids.append(7)
    return done


def test_a_long_prompt_is_read_in_chunks_while_others_write():
    scheduler = Scheduler(num_slots=2, tokens_per_step=4)
    scheduler.add(asked("short", 2))
    assert compute(scheduler) == [("short", 2)]
    scheduler.add(asked("long", 8))
    assert compute(scheduler) == [("short", 1), ("long", 3)]
    assert compute(scheduler) == [("short", 1), ("long", 3)]
    assert compute(scheduler) == [("short", 1), ("long", 2)]
    assert compute(scheduler) == [("short", 1), ("long", 1)]


def test_who_comes_first_gets_the_free_slot():
    scheduler = Scheduler(num_slots=1, tokens_per_step=4)
    for name in ("a", "b", "c"):
        scheduler.add(asked(name, 1))
    assert compute(scheduler) == [("a", 1)]
    scheduler.remove({"a"})
    assert compute(scheduler) == [("b", 1)]
    assert [state.request.id for state in scheduler.waiting] == ["c"]


def test_a_waiting_request_is_cancelled_without_a_move():
    scheduler = Scheduler(num_slots=1, tokens_per_step=4)
    scheduler.add(asked("a", 1))
    scheduler.add(asked("b", 1))
    compute(scheduler)
    assert scheduler.remove({"b"}) == []
    assert [state.request.id for state in scheduler.running] == ["a"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 9)),
            st.tuples(st.just("step"), st.just(0)),
            st.tuples(st.just("remove"), st.sets(st.integers(0, 30), max_size=4)),
        ),
        max_size=60,
    ),
    st.integers(1, 5),
    st.integers(0, 6),
)
def test_slots_stay_together_and_hold_what_their_requests_computed(events, num_slots, more):
    scheduler = Scheduler(num_slots, num_slots + more)
    slots: dict[int, list[tuple[str, int]]] = {}
    number = 0
    for kind, value in events:
        if kind == "add":
            scheduler.add(asked(str(number), value))
            number += 1
        elif kind == "step":
            scheduler.admit()
            chunks = scheduler.schedule()
            assert sum(chunk.num_tokens for chunk in chunks) <= num_slots + more
            assert len({id(chunk.state) for chunk in chunks}) == len(chunks)
            for chunk in chunks:
                state = chunk.state
                held = slots.setdefault(state.slot, [])
                held[state.num_computed :] = [(state.request.id, i) for i in chunk.ids]
                state.num_computed += chunk.num_tokens
                if not state.num_left:
                    state.ids.append(7)
        else:
            for move in scheduler.remove({str(each) for each in value}):
                slots[move.target] = slots.get(move.source, [])[: move.num_tokens]
        running = scheduler.running
        assert [state.slot for state in running] == list(range(len(running)))
        for state in running:
            mine = [(state.request.id, i) for i in state.ids[: state.num_computed]]
            assert slots.get(state.slot, [])[: state.num_computed] == mine


def test_requests_wait_for_memory_and_nobody_overtakes():
    scheduler = Scheduler(num_slots=8, tokens_per_step=64)
    scheduler.limit_tokens = 100
    for name, num_most in (("a", 30), ("b", 30), ("long", 60), ("c", 10)):
        scheduler.add(asked(name, 4, num_most))
    assert [state.request.id for state in scheduler.admit()] == ["a", "b"]
    scheduler.remove({"a", "b"})
    # 60 for it alone, 120 for two as long as it.
    assert [state.request.id for state in scheduler.admit()] == ["long"]
    scheduler.remove({"long"})
    assert [state.request.id for state in scheduler.admit()] == ["c"]
    scheduler.remove({"c"})
    scheduler.add(asked("huge", 4, 500))
    assert [state.request.id for state in scheduler.admit()] == ["huge"]
