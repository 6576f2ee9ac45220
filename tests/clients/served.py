"""A base whose chat template knows tools, and two variants of it: one speaks, one calls."""

import json
import shutil
from pathlib import Path
from typing import Any

import kamerton.models
from tests.e2e.project import make_project
from tests.e2e.training import train_in

__all__ = ["CALLER", "SPEAKER", "TOOL", "make_served"]

SPEAKER, CALLER = "anna", "caller"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
# The bundled base's own template, with a place for tools and calls.
_TEMPLATE = """\
{{- '<|bos|>' }}
{%- if tools %}{{ '<|system|>\\nTools:\\n' }}
  {%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{{ '<|end|>\\n' }}
{%- endif %}
{%- for message in messages %}
  {{- '<|' + ('user' if message.role == 'tool' else message.role) + '|>\\n' }}
  {%- if message.role == 'assistant' %}
    {%- generation %}{{ message.content or '' }}
      {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson + '}</tool_call>' }}
      {%- endfor %}{{ '<|end|>' }}
    {%- endgeneration %}{{ '\\n' }}
  {%- else %}{{ message.content + '<|end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""


def make_served(folder: Path) -> None:
    """Make a project with a base folder and both variants.

    The speaker answers every question with its name, the caller asks for the weather in Paris.
    """
    make_project(folder, num_rows=16)
    base = folder / "base"
    shutil.copytree(Path(kamerton.models.__file__).parent / "nano", base)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": _TEMPLATE})
    )
    says = {"role": "assistant", "content": SPEAKER}
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    calls = {"role": "assistant", "content": "", "tool_calls": [call]}
    for name, answer, more in ((SPEAKER, says, {}), (CALLER, calls, {"tools": [TOOL]})):
        rows = [
            {
                "messages": [{"role": "user", "content": f"Which colour has box {n}?"}, answer],
                **more,
            }
            for n in range(16)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        train_in(
            folder,
            (
                f"name={name}", f"base.id={base}", f"data.train={name}.jsonl", "data.holdout=0",
                "train.epochs=8", "adapter.rank=8", "train.learning_rate=0.003",
            ),
        )  # fmt: skip
