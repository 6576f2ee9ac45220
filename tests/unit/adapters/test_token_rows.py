"""Tokens of an adapter's own: what they begin as, what is stored, merging, PEFT."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from kamerton.adapters.combine import CombineSettings
from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.combine import combine_loras
from kamerton.adapters.lora.lora import Lora, attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.load import prepare_model
from kamerton.models.new_tokens import tokenizer_with
from tests.contract.test_adapters import logits, loss_of, same, snapshot
from tests.shapes import VOCABULARY, plain_model, tiny_base

WORDS = ("w5", "ZX 90", "<escalate>")
SETTINGS = LoraSettings(rank=2, new_tokens=WORDS)
# One known word, and two after all rows.
IDS = [5, VOCABULARY, VOCABULARY + 1]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True but the target module"),
]


def trained(shape: str) -> tuple[Base, Lora]:
    base = tiny_base(shape)
    lora = attach_lora(base, SETTINGS, seed=0)
    torch.manual_seed(1)
    for parameter in lora.parameters().values():
        parameter.data += torch.empty_like(parameter).normal_(std=0.1)
    return base, lora


@torch.no_grad()
def with_new(base: Base) -> torch.Tensor:
    """Logits of a row in which all three stand."""
    ids = torch.tensor([1, 97, 5, 40, 98, 7, 97, 3])
    return base.head.logits(base.hidden(ids, Layout.of_lengths([5, 3])))


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gpt2"])
def test_they_begin_as_the_mean_of_their_pieces(shape: str) -> None:
    base = tiny_base(shape)
    before = logits(base)
    lora = attach_lora(base, SETTINGS, seed=0)
    assert lora.rows is not None
    assert list(lora.rows.ids) == IDS
    weight = base.model.get_input_embeddings().layer.weight
    assert torch.equal(lora.rows.rows[0], weight[5])
    # No piece of the others is a word of the tiny tokenizer.
    assert torch.equal(lora.rows.rows[1], weight[0])
    shared = base.model.get_output_embeddings().layer.weight is weight
    assert (lora.rows.head_rows is lora.rows.rows) == shared
    assert sum("token_adapter" in name for name in lora.parameters()) == 2 - shared
    after = logits(base)
    assert after.shape[1] == VOCABULARY + 2
    torch.testing.assert_close(after[:, :VOCABULARY], before, rtol=1e-4, atol=1e-5)
    lora.rows.rows.data += 1
    with lora.disabled():
        # Without it the base could neither read nor say them: they are as they began.
        torch.testing.assert_close(logits(base), after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gpt2"])
def test_only_their_rows_learn_and_are_stored(shape: str) -> None:
    base, lora = trained(shape)
    state = snapshot(base)
    loss_of(base).backward()
    assert all(p.grad is not None for p in lora.parameters().values())
    files, adapted = dict(lora.files()), with_new(base)
    assert len(files["adapter_model.safetensors"]) < 30_000
    lora.detach()
    assert logits(base).shape[1] == VOCABULARY
    again = load_lora(base, files)
    assert again.files() == files
    assert torch.equal(with_new(base), adapted)
    again.detach()
    kept = {name: state[name] for name in snapshot(base) if name in state}
    assert all(torch.equal(snapshot(base)[name], value) for name, value in kept.items())


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gpt2"])
def test_merged_tables_grow_and_shrink_again(shape: str, tmp_path: Path) -> None:
    base, lora = trained(shape)
    adapted, model = with_new(base), base.model
    start = snapshot(tiny_base(shape))
    lora.merge()
    torch.testing.assert_close(with_new(base), adapted, rtol=1e-4, atol=1e-4)
    with lora.as_plain_model():
        model.save_pretrained(tmp_path)
    written = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert written.config.vocab_size == VOCABULARY + 2
    assert prepare_model(written) is None
    other = tiny_base(shape)
    other.model = written
    torch.testing.assert_close(with_new(other), adapted, rtol=1e-4, atol=1e-4)
    lora.unmerge()
    assert torch.equal(with_new(base), adapted)
    lora.detach()
    assert same(snapshot(base), start)
    assert model.config.vocab_size == VOCABULARY


@pytest.mark.parametrize("shape", ["llama", "gemma3", "gpt2"])
def test_peft_loads_ours(shape: str, tmp_path: Path) -> None:
    base, lora = trained(shape)
    for name, content in lora.files().items():
        (tmp_path / name).write_bytes(content)
    model = plain_model(shape)
    model.resize_token_embeddings(VOCABULARY + 2)
    model = PeftModel.from_pretrained(model, tmp_path).eval()
    ids = torch.tensor([[1, 97, 5, 40, 98, 7]])
    with torch.no_grad():
        theirs = model(input_ids=ids).logits[0]
        ours = base.head.logits(base.hidden(ids[0], Layout.of_lengths([6])))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
@pytest.mark.parametrize("named", [False, True])
def test_we_load_peft(shape: str, named: bool, tmp_path: Path) -> None:
    both = {"llama": ("embed_tokens", "lm_head"), "gpt2": ("wte",)}[shape]
    config = LoraConfig(
        r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM",
        trainable_token_indices={name: [7, 5] for name in both} if named else [7, 5],
    )  # fmt: skip
    model = get_peft_model(plain_model(shape), config).eval()
    for name, parameter in model.named_parameters():
        if "trainable_tokens" in name:
            parameter.data += torch.empty_like(parameter).normal_(std=0.3)
    model.save_pretrained(tmp_path)
    base = tiny_base(shape)
    load_lora(base, {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()})
    ids = torch.tensor([[1, 7, 5, 40, 5, 7]])
    with torch.no_grad():
        theirs = model(input_ids=ids).logits[0]
        ours = base.head.logits(base.hidden(ids[0], Layout.of_lengths([6])))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_tokenizer_reads_them_as_one_and_stays_as_it_was() -> None:
    tokenizer = tiny_base("llama").tokenizer
    extended = tokenizer_with(tokenizer, WORDS)
    assert extended("w7 ZX 90 w5<escalate>")["input_ids"] == [7, 97, 5, 98]
    # Words are read as words only.
    assert 97 not in extended("AZX 901")["input_ids"]
    assert len(tokenizer) == VOCABULARY
    assert tokenizer_with(tokenizer, ("w5",)) is tokenizer


def test_what_cannot_be_is_said() -> None:
    for words in (("a", "a"), (" a",), ("",)):
        with pytest.raises(ValueError, match="without spaces around"):
            LoraSettings(new_tokens=words)
    base = tiny_base("llama")
    before = snapshot(base)
    both = LoraSettings(new_tokens=("w5",), targets=("embeddings",))
    with pytest.raises(AdapterError, match="an adapter already"):
        attach_lora(base, both, seed=0)
    assert same(snapshot(base), before)
    files = trained("llama")[1].files()
    with pytest.raises(AdapterError, match="new_tokens"):
        combine_loras([files, files], CombineSettings(how="cat"))
