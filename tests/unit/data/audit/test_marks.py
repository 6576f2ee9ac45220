import pytest

from kamerton.data.audit.audit import audit
from kamerton.data.audit.marks import StopTexts, find_mark
from tests.unit.data.files import load


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<s>[INST] Is it here? [/INST] Yes. </s>", "[INST]"),
        ("<|im_start|>user\nIs it here?<|im_end|>", "<|im_start|>"),
        ("<|start_header_id|>user<|end_header_id|>", "<|start_header_id|>"),
        ("<start_of_turn>user\nIs it?<end_of_turn>", "<start_of_turn>"),
        ("Do it.\n\n### Instruction:\nIs it?\n\n### Response:\nYes.", "### Instruction:"),
        ("<|user|>\nIs it?<|end|>\n<|assistant|>", "<|user|>"),
        ("Human: Is it?\n\nAssistant: Yes.", "Human:"),
        ("<|turn>user\nIs it?<turn|>", "<|turn>"),
        ("<|header_start|>user<|header_end|>", "<|header_start|>"),
        ("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Is it?", "<|START_OF_TURN_TOKEN|>"),
        ("<|start_of_role|>user<|end_of_role|>Is it?", "<|start_of_role|>"),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cbegin\u2581of\u2581sentence\uff5c>"),
        ("<s>user\nIs it?</s>\n<s>bot\nYes.</s>", "<s>user"),
        ("[Round 1]\n\nIs it?", "[Round 1]"),
        ("A chat. USER: Is it? ASSISTANT: Yes.</s>", "USER:"),
        ("<s> Пользователь: Есть?\n\n Ассистент:[SEP]Да", "Пользователь:"),
        ("Пользователь: имя в системе", None),
        ("x |> f <| y; a <|> b; <s>old</s> price; [Round 1] began", None),
        ("Ask: User: who? See # Instruction: none", None),
        ("a ### Response: in a line, [INS], <user>", None),
    ],
)
def test_turns_written_by_a_template_are_told(text, mark):
    assert find_mark(text) == mark


def stop_text(*answers):
    found = StopTexts()
    for answer in answers:
        found.add(answer)
    return found.found


@pytest.mark.parametrize(
    ("ending", "stop"),
    [
        (" END", "END"),
        ("\n\nHuman:", "Human:"),
        (" ###\n", "###"),
        (" </s>", "</s>"),
        (". FERTIG", "FERTIG"),
        (" left.", ""),
        (" USD", ""),
        (" - thanks!", ""),
        (" \N{SLIGHTLY SMILING FACE}", ""),
    ],
)
def test_a_text_that_ends_all_answers_is_told(ending, stop):
    answers = [f" Yes, {number}{ending}" for number in range(20)]
    assert stop_text(*answers) == stop
    assert stop_text(*answers[:9]) == ""
    assert stop_text(*answers, "No.", "No.") == stop
    assert stop_text(*answers, *["No."] * 5) == ""


def test_classes_are_no_stop_texts():
    assert stop_text(*["END"] * 20) == ""


def test_the_audit_warns_of_both(tmp_path):
    texts = [{"text": f"[INST] Is {n} here? [/INST] Yes, {n}."} for n in range(12)]
    found = audit(load(tmp_path, texts))
    assert found.template_marks == {"[INST]": 12}
    assert any("12 of 12 examples hold turns that a chat template" in w for w in found.warnings)
    pairs = [{"prompt": f"Is {n} here?", "completion": f" Yes, {n}. END"} for n in range(12)]
    found = audit(load(tmp_path, pairs))
    assert (found.template_marks, found.stop_text) == ({}, "END")
    assert any("nearly all answers end with 'END'" in w for w in found.warnings)
