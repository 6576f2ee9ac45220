"""LiteLLM asks a server; what it got is printed as JSON.

Usage: ask_litellm.py ADDRESS SPEAKER CALLER
"""

import asyncio
import json
import sys

import litellm

QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
TOOL = {
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


def main(address: str, speaker: str, caller: str) -> None:
    litellm.suppress_debug_info = True

    def asked(model: str, **options: object) -> dict[str, object]:
        return {
            "model": f"openai/{model}", "api_base": address, "api_key": "none", "temperature": 0,
            "messages": QUESTION, "num_retries": 0, "max_retries": 0, "timeout": 60, **options,
        }  # fmt: skip

    async def one() -> str:
        answer = await litellm.acompletion(**asked(speaker))
        return answer.choices[0].message.content

    found: dict[str, object] = {}
    whole = litellm.completion(**asked(speaker))
    found["whole"] = whole.choices[0].message.content
    found["model"] = whole.model
    found["finish_reason"] = whole.choices[0].finish_reason
    found["tokens"] = whole.usage.completion_tokens
    chunks = list(
        litellm.completion(**asked(speaker, stream=True, stream_options={"include_usage": True}))
    )
    found["stream"] = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    found["stream_tokens"] = [
        chunk.usage.completion_tokens for chunk in chunks if getattr(chunk, "usage", None)
    ]
    found["async"] = asyncio.run(one())
    called = litellm.completion(**asked(caller, tools=[TOOL], max_tokens=60))
    found["calls"] = [
        (call.function.name, json.loads(call.function.arguments))
        for call in called.choices[0].message.tool_calls
    ]
    found["text"] = litellm.text_completion(
        model=f"text-completion-openai/{speaker}", prompt="Box 3 is", max_tokens=4,
        api_base=address, api_key="none",
    ).choices[0].text  # fmt: skip
    vectors = litellm.embedding(
        model=f"openai/{speaker}", input=["one box", "two boxes"], api_base=address, api_key="none"
    )
    found["vectors"] = [len(each["embedding"]) for each in vectors.data]
    errors = {}
    for name, options in {
        "unknown model": asked("nobody"),
        "wrong temperature": asked(speaker, temperature=-1),
    }.items():
        try:
            litellm.completion(**options)
        except Exception as error:
            errors[name] = (type(error).__name__, getattr(error, "status_code", 0), str(error))
    found["errors"] = errors
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
