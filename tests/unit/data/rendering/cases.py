"""Tiny tokenizers whose chat templates have the shapes of well-known ones.

The templates are written for these tests; they imitate shapes, not texts.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["CASES", "Case", "metaspace_tokenizer", "tokenizer_of"]

_SENTENCES = [
    "Is the shop open today? Yes, until six in the evening.",
    "Where is my order? It was sent on Monday and arrives tomorrow.",
    "Можно ли вернуть товар? Да, в течение двух недель.",
    "The card was blocked. Please call the bank and answer three questions.",
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
]

_CHATML = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
  {{- '<|im_start|>' + m.role + '\\n' }}
  {%- if m.role == 'assistant' %}{MARK}{{ m.content }}
    {%- for call in m.tool_calls or [] %}
      {{- '<tool_call>' + call.function.name + call.function.arguments | tojson + '</tool_call>' }}
    {%- endfor %}{{ '<|im_end|>' }}{END}{{ '\\n' }}
  {%- else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Thinking is kept after the last user turn only; a switch puts an empty block into the prompt.
_QWEN3 = """\
{%- set ns = namespace(last=0) %}
{%- for m in messages %}
  {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
  {{- '<|im_start|>' + m.role + '\\n' }}
  {%- if m.role == 'assistant' %}
    {%- set content = m.content %}
    {%- set reasoning = m.reasoning_content or '' %}
    {%- if '</think>' in content %}
      {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last %}
      {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}{{ content }}{% endif %}
  {%- else %}{{ m.content }}{% endif %}
  {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and not enable_thinking %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- endif %}
{%- endif %}"""

# The prompt opens a thinking block; finished answers are written without theirs.
_R1 = """\
{{- bos_token }}
{%- for m in messages %}
  {%- if m.role == 'system' %}{{ m.content }}
  {%- elif m.role == 'user' %}{{ '<|User|>' + m.content }}
  {%- else %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"""

_LLAMA3 = """\
{{- bos_token }}
{%- for m in messages %}
  {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
  {{- m.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

_GEMMA = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Roles must alternate user/assistant') }}
  {%- endif %}
  {%- set role = 'model' if m.role == 'assistant' else m.role %}
  {{- '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

_MISTRAL = """\
{{- bos_token }}
{%- for m in messages %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('conversation roles must alternate') }}
  {%- endif %}
  {%- if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}
  {%- else %}{{ ' ' + m.content + eos_token }}{% endif %}
{%- endfor %}"""

_ZEPHYR = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

# A finished chat gets EOS after its last end of turn.
_PHI3 = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

# The last answer ends with another token than earlier ones, and a channel stands before it.
_HARMONY = """\
{%- for m in messages %}
  {%- if m.role == 'assistant' %}
    {{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}
    {{- '<|return|>' if loop.last else '<|end|>' }}
  {%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# Reasoning has a key and a channel of its own, which earlier answers lose; calls end differently.
_GPT_OSS = """\
{%- for t in tools or [] %}
  {{- '<|start|>developer<|message|>' + t.function | tojson + '<|end|>' }}
{%- endfor %}
{%- for m in messages %}
  {%- if m.role == 'assistant' and m.tool_calls %}
    {%- set call = m.tool_calls[0].function %}
    {%- if m.content and m.thinking %}{{ raise_exception('not both') }}{% endif %}
    {%- if m.content or m.thinking %}
      {{- '<|start|>assistant<|channel|>analysis<|message|>' + (m.content or m.thinking) }}
      {{- '<|end|>' }}
    {%- endif %}
    {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}
    {{- call.arguments | tojson + '<|call|>' }}
  {%- elif m.role == 'assistant' %}
    {%- if loop.last and not add_generation_prompt and 'thinking' in m %}
      {{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}
    {%- endif %}
    {{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}
    {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
  {%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# Control tokens stand around reasoning and before calls.
_MAGISTRAL = """\
{{- bos_token }}
{%- for t in tools or [] %}{{ '[AVAILABLE_TOOLS]' + t | tojson + '[/AVAILABLE_TOOLS]' }}{% endfor %}
{%- for m in messages %}
  {%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}
  {%- elif m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}
  {%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}
  {%- else %}
    {%- if m.reasoning %}{{ '[THINK]' + m.reasoning + '[/THINK]' }}{% endif %}
    {{- m.content }}
    {%- for call in m.tool_calls or [] %}
      {{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + call.function.arguments | tojson }}
    {%- endfor %}{{ eos_token }}
  {%- endif %}
{%- endfor %}"""

# Reasoning is a part of the text, a switch closes it in the prompt; a line break ends an answer.
_INLINE = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '\\n' + eos_token }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}
  {%- if not enable_thinking %}{{ '<think>\\n\\n</think>\\n' }}{% endif %}
{%- endif %}"""

# Knows no generation prompt.
_NO_OPENING = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"""

# Ends no turn.
_NO_END = """\
{%- for m in messages %}{{ m.role | upper + ': ' + m.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""


@dataclass(frozen=True)
class Case:
    """A tokenizer and what its answers look like.

    Attributes:
        template: Jinja text, None for none.
        special: Control tokens beside BOS and EOS.
        bos: BOS token, if any.
        eos: EOS token, if any.
        adds_bos: Whether the tokenizer adds BOS by itself.
        answer: What is trained for an answer `{}`.
        pad: Padding token, if any.
        plain_added: Added tokens that are not special.
    """

    template: str | None
    special: tuple[str, ...] = ()
    bos: str | None = None
    eos: str | None = "</s>"
    adds_bos: bool = False
    answer: str = "{}</s>"
    pad: str | None = None
    plain_added: tuple[str, ...] = ("<think>", "</think>", "<tool_call>", "</tool_call>")


_IM = ("<|im_start|>", "<|im_end|>")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_CHATML_PLAIN = _CHATML.replace("{MARK}", "").replace("{END}", "")
_CHATML_MARKED = _CHATML.replace("{MARK}", "{% generation %}").replace(
    "{END}", "{% endgeneration %}"
)

CASES = {
    "chatml": Case(_CHATML_PLAIN, _IM, eos="<|im_end|>", answer="{}<|im_end|>", pad="<|im_end|>"),
    "chatml-marked": Case(_CHATML_MARKED, _IM, eos="<|endoftext|>", answer="{}<|im_end|>"),
    "qwen3": Case(_QWEN3, _IM, eos="<|im_end|>", answer="{}<|im_end|>"),
    "r1": Case(
        _R1, ("<|User|>", "<|Assistant|>"), bos="<s>", answer="\n</think>\n\n{}</s>", adds_bos=True
    ),
    "llama3": Case(
        _LLAMA3,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin|>",
        eos="<|end_of_text|>",
        adds_bos=True,
        answer="{}<|eot_id|>",
    ),
    "gemma": Case(
        _GEMMA,
        ("<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        adds_bos=True,
        answer="{}<end_of_turn>",
        pad="<pad>",
    ),
    "mistral": Case(_MISTRAL, bos="<s>", adds_bos=True, answer=" {}</s>"),
    "zephyr": Case(_ZEPHYR, bos="<s>", adds_bos=True),
    "phi3": Case(_PHI3, (*_ROLES, "<|end|>"), bos="<s>", eos="<|endoftext|>", answer="{}<|end|>"),
    "harmony": Case(
        _HARMONY,
        ("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|end|>"),
        eos="<|return|>",
        answer="<|channel|>final<|message|>{}<|return|>",
    ),
    "gpt-oss": Case(
        _GPT_OSS,
        ("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|end|>", "<|call|>"),
        eos="<|return|>",
        answer="<|channel|>final<|message|>{}<|return|>",
    ),
    "magistral": Case(
        _MAGISTRAL,
        ("[INST]", "[/INST]", "[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"),
        bos="<s>",
        adds_bos=True,
    ),
    "inline": Case(_INLINE, answer="{}\n</s>"),
    "no-opening": Case(_NO_OPENING),
    "no-end": Case(_NO_END, answer=" {}</s>"),
    "no-template": Case(None, bos="<s>", adds_bos=True),
}
"""Shapes by name."""


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES * 4, trainer)
    return str(tokenizer.to_str())


def tokenizer_of(case: Case) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a case.

    Args:
        case: Its special tokens and template.

    Returns:
        A byte-level BPE tokenizer of about 400 tokens.
    """
    backend = Tokenizer.from_str(_trained())
    named = {"bos_token": case.bos, "eos_token": case.eos, "pad_token": case.pad}
    given: dict[str, Any] = {name: token for name, token in named.items() if token is not None}
    backend.add_special_tokens(list(dict.fromkeys([*given.values(), *case.special])))
    backend.add_tokens([AddedToken(token, special=False) for token in case.plain_added])
    if case.adds_bos and case.bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{case.bos} $A", special_tokens=[(case.bos, backend.token_to_id(case.bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=case.template, **given)


def metaspace_tokenizer(template: str, prepend_scheme: str) -> PreTrainedTokenizerFast:
    """Build a tokenizer that puts a space before a text, as SentencePiece does.

    Args:
        template: Chat template.
        prepend_scheme: `first` or `always`.

    Returns:
        A BPE tokenizer with BOS, EOS and control tokens that swallow white space after them.
    """
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    backend.train_from_iterator([*_SENTENCES, "a\nb\n"] * 4, trainer)
    backend.add_special_tokens([AddedToken(token, rstrip=True) for token in _ROLES])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=template,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
