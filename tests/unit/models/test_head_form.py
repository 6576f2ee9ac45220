"""Scale, cap and form of a head are read off what the model computes, whatever they are called."""

import pytest
import torch

from kamerton.models.head_form import recognise_head
from kamerton.models.heads import Head, token_logprobs
from tests.families import build
from tests.shapes import plain_model

FORMS = {
    "llama": (1.0, None),
    "granite": (1 / 0.7, None),  # divides by logits_scaling
    "hyperclovax": (0.7, None),  # multiplies by logits_scaling
    "cohere": (0.7, None),
    "falcon_h1": (0.7, None),
    "gemma2": (1.0, 3.0),
    "recurrent_gemma": (1.0, 3.0),
    "xlstm": (1.0, 3.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_scale_and_cap_are_found(name: str, dtype: torch.dtype) -> None:
    form = recognise_head(build(name).to(dtype))
    assert (form.scale, form.softcap) == pytest.approx(FORMS[name])
    assert form.own is None


@pytest.mark.parametrize("name", ["modernbert-decoder", "bert"])
def test_layers_before_the_head_leave_it_to_the_model(name: str) -> None:
    model = build(name)
    form = recognise_head(model)
    assert form.own is not None
    ids = torch.randint(4, 97, (12,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids[None]).last_hidden_state[0]
        wanted = model(input_ids=ids[None]).logits[0]
    assert torch.equal(form.own(hidden), wanted)
    head = Head(model.get_output_embeddings().weight, own=form.own)
    leaf = hidden.clone().requires_grad_()
    found = token_logprobs(leaf, ids, head)
    plain = wanted.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    torch.testing.assert_close(found.detach(), plain)
    found.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().min() > 0


def test_tokens_that_are_ruled_out_leave_it_to_the_model() -> None:
    model = plain_model("llama")
    kind = type(model)

    class Silent(kind):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits[..., 5] = torch.finfo(torch.float32).min
            return output

    model.__class__ = Silent
    assert recognise_head(model).own is not None


def test_a_model_without_weights_has_the_plain_form() -> None:
    with torch.device("meta"):
        model = build("gemma2")
    form = recognise_head(model)
    assert (form.scale, form.softcap, form.own) == (1.0, None, None)
