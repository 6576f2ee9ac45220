"""The hash of a tokenizer is that of its content, however often it is asked for."""

import json

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from kamerton.core.files import hash_json
from kamerton.data.rendering.templates import tokenizer_hash


def tokenizer(*words, **special):
    vocab = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=words[0]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_equal_tokenizers_have_one_hash_and_others_their_own():
    one, other = tokenizer("a", "b"), tokenizer("a", "c")
    content = json.loads(one.backend_tokenizer.to_str())
    del content["padding"], content["truncation"]
    expected = hash_json([content, {}])
    assert tokenizer_hash(one) == tokenizer_hash(one) == expected
    assert tokenizer_hash(other) != expected
    assert tokenizer_hash(tokenizer("a", "b")) == expected
    assert tokenizer_hash(tokenizer("a", "b", eos_token="b")) != expected
    # How it is used is no part of what it is.
    one.backend_tokenizer.enable_truncation(5)
    assert tokenizer_hash(one) == expected
    one.add_tokens(["d"])
    assert tokenizer_hash(one) != expected
