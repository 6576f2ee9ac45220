import pytest

from kamerton.data import examples_on_disk
from kamerton.data.examples import ChatExample, ClassificationExample, SourceLocation, TextExample
from kamerton.data.examples_on_disk import ExamplesOnDisk, Picked

CHAT = ChatExample(
    SourceLocation("a", 1),
    ({"role": "user", "content": "Привет"}, {"role": "assistant", "content": "\0\n"}),
    tools=({"type": "function", "function": {"name": "f"}},),
    extra={"n": [1, {"x": None}]},
)


@pytest.mark.parametrize("memory", [1, 1 << 25])
def test_a_spool_gives_back_what_was_put_in(monkeypatch, memory):
    monkeypatch.setattr(examples_on_disk, "_MEMORY_BYTES", memory)
    examples = [TextExample(SourceLocation("a", i), "я" * i) for i in range(600)]
    examples += [CHAT, ClassificationExample(SourceLocation("b", 2), "t", "l")]
    store = ExamplesOnDisk()
    for number, example in enumerate(examples, 1):
        store.append(example)
        assert len(store) == number
    assert list(store) == examples
    assert store[600] == CHAT
    assert store[-1] == examples[-1]
    assert store[598:601] == examples[598:601]
    with pytest.raises(IndexError):
        store[602]
    # Reading in between disturbs neither a loop nor what is added.
    for example, expected in zip(store, examples, strict=True):
        assert store[0] == examples[0]
        assert example == expected
    store.append(CHAT)
    assert store[602] == CHAT
    assert list(ExamplesOnDisk()) == []


def test_picked_examples_come_in_order():
    examples = [TextExample(SourceLocation("a", i), str(i)) for i in range(10)]
    picked = Picked(examples, [7, 1, 3])
    assert [example.text for example in picked] == ["7", "1", "3"]
    assert list(picked[1:]) == [examples[1], examples[3]]
    assert picked[-1] == examples[3]
    assert len(picked) == 3
    assert not Picked(examples, [])
