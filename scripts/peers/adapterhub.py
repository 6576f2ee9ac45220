"""What the `adapters` library computes, recorded for our tests, and ours loaded into it.

    python scripts/peers/adapterhub.py record FOLDER   # tiny bases, its adapters, its logits
    python scripts/peers/adapterhub.py compare FOLDER  # loads <model>/ours-*, prints differences

Runs in an environment of its own: `adapters` 1.3 pins Transformers 4.57. `make adapterhub` does
all of it.
"""

import shutil
import sys
from pathlib import Path

import adapters
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

IDS = torch.arange(3, 27)[None]
SIZE = {"vocab_size": 29, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Logits of the fixed ids, [T, V]."""
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits[0].float()


def load(folder: Path) -> torch.nn.Module:
    """Load a tiny base, ready for adapters."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    adapters.init(model)
    return model


def record(root: Path) -> None:
    """Write bases, adapters with random values, and logits."""
    torch.manual_seed(0)
    bases = {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZE, **LLAMA)),
        "gpt2": GPT2LMHeadModel(GPT2Config(**SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=32)),
    }
    configs = {
        "double": adapters.DoubleSeqBnConfig(reduction_factor=4),
        "seq": adapters.SeqBnConfig(reduction_factor=8),
        "own-input": adapters.SeqBnConfig(
            non_linearity="gelu", original_ln_before=False, leave_out=[1], scaling=2.0
        ),
    }
    for name, base in bases.items():
        # Larger than at initialisation, so that every part shows in the logits.
        for parameter in base.parameters():
            parameter.data.mul_(8.0 if parameter.ndim > 1 else 1.0)
        folder = root / name
        base.save_pretrained(folder / "base")
        (folder / "base" / "generation_config.json").unlink()
        found = {"base": logits(load(folder / "base"))}
        for what, config in configs.items():
            model = load(folder / "base")
            model.add_adapter("t", config=config, set_active=True)
            for key, parameter in model.named_parameters():
                if "adapters.t." in key:
                    torch.nn.init.normal_(parameter, std=0.3)
            model.save_adapter(str(folder / what), "t", use_safetensors=what != "double")
            for head in (folder / what).glob("*head*"):
                head.unlink()
            found[what] = logits(model)
        save_file(found, folder / "logits.safetensors")


def compare(root: Path) -> None:
    """Load our files and print how far the library's logits are from ours."""
    compared = 0
    for folder in sorted(root.glob("*/ours-*")):
        model = load(folder.parent / "base")
        model.load_adapter(str(folder), set_active=True, use_safetensors=True)
        ours = load_file(folder / "logits.safetensors")["logits"]
        base = load_file(folder.parent / "logits.safetensors")["base"]
        far = float((logits(model) - ours).abs().max())
        moved = float((ours - base).abs().max())
        print(f"{folder.parent.name} {folder.name}: largest difference {far:.2g} of {moved:.2g}")
        assert far < 1e-4 < moved
        compared += 1
    assert compared, "nothing to compare: run the parity test with KAMERTON_INTEROP first"


if __name__ == "__main__":
    target = Path(sys.argv[2])
    if sys.argv[1] == "record":
        shutil.rmtree(target, ignore_errors=True)
        record(target)
    else:
        compare(target)
