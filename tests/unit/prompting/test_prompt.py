"""Prompts: what stands before a chat."""

import pytest

from kamerton.core.errors import SettingsError
from kamerton.prompting.prompt import Prompt

ASK = {"role": "user", "content": "Hi"}
SHOWN = (
    {"role": "user", "content": "My card is gone"},
    {"role": "assistant", "content": "lost_card"},
)


def test_an_empty_prompt_changes_nothing() -> None:
    own = ({"role": "system", "content": "Own."}, ASK)
    assert Prompt().apply(own) == own
    assert Prompt(system="  ").apply((ASK,)) == (ASK,)


def test_system_text_and_demonstrations_come_first() -> None:
    prompt = Prompt(system="Name the intent.", demonstrations=(SHOWN, SHOWN))
    assert prompt.apply((ASK,)) == (
        {"role": "system", "content": "Name the intent."},
        *SHOWN,
        *SHOWN,
        ASK,
    )


def test_a_chat_s_own_system_text_follows_and_is_said_once() -> None:
    own = {"role": "system", "content": [{"type": "text", "text": "The client is Ann."}]}
    prompt = Prompt(system="Be kind.", demonstrations=(SHOWN,))
    applied = prompt.apply((own, ASK))
    assert applied[0] == {"role": "system", "content": "Be kind.\n\nThe client is Ann."}
    assert applied[1:] == (*SHOWN, ASK)
    same = prompt.apply(({"role": "system", "content": "Be kind."}, ASK))
    assert same[0]["content"] == "Be kind."


def test_messages_of_the_chat_stay_the_last_ones() -> None:
    applied = Prompt(demonstrations=(SHOWN,)).apply((ASK, SHOWN[1], ASK))
    assert applied[-3:] == (ASK, SHOWN[1], ASK)


@pytest.mark.parametrize(
    "demonstration",
    [(), (ASK,), (SHOWN[1],), ({"role": "system", "content": "x"}, *SHOWN)],
)
def test_a_demonstration_is_a_whole_worked_example(demonstration: tuple[dict[str, str]]) -> None:
    with pytest.raises(SettingsError, match="demonstration 2 must go from a user's turn"):
        Prompt.parse({"demonstrations": [SHOWN, demonstration]})


def test_the_hash_is_of_the_content() -> None:
    prompt = Prompt(system="Be kind.", demonstrations=(SHOWN,))
    assert prompt.hash == Prompt(system="Be kind.", demonstrations=(SHOWN,)).hash
    different = {Prompt().hash, Prompt(system="Be kind.").hash, prompt.hash}
    assert len(different) == 3
