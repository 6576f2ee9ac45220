"""LangChain's ChatOpenAI asks a server; what it got is printed as JSON.

Usage: ask_langchain.py ADDRESS SPEAKER CALLER
"""

import asyncio
import json
import sys
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

QUESTION = "Which colour has box 3?"


class Box(BaseModel):
    """A box."""

    colour: Literal["red", "blue"]
    is_open: bool


@tool
def weather(city: str) -> str:
    """The weather of a city"""
    return f"sunny in {city}"


def main(address: str, speaker: str, caller: str) -> None:
    def chat(model: str, **options: object) -> ChatOpenAI:
        options = {"temperature": 0, "max_retries": 0, "timeout": 60, **options}
        return ChatOpenAI(model=model, base_url=address, api_key="none", **options)

    found: dict[str, object] = {}
    whole = chat(speaker).invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    found["whole"] = whole.content
    found["model"] = whole.response_metadata["model_name"]
    found["tokens"] = whole.usage_metadata["output_tokens"]
    found["finish_reason"] = whole.response_metadata["finish_reason"]
    found["stream"] = [piece.content for piece in chat(speaker, stream_usage=True).stream(QUESTION)]
    found["async"] = asyncio.run(chat(speaker).ainvoke(QUESTION)).content
    found["batch"] = [each.content for each in chat(speaker).batch([QUESTION, QUESTION])]
    found["logprobs"] = len(
        chat(speaker, logprobs=True, top_logprobs=2)
        .invoke(QUESTION)
        .response_metadata["logprobs"]["content"]
    )
    calling = chat(caller, max_tokens=60).bind_tools([weather])
    found["calls"] = calling.invoke(QUESTION).tool_calls
    pieces = list(calling.stream(QUESTION))
    gathered = pieces[0]
    for piece in pieces[1:]:
        gathered = gathered + piece
    found["streamed_calls"] = gathered.tool_calls
    forced = chat(speaker, max_tokens=300).bind_tools([weather], tool_choice="weather", strict=True)
    found["forced"] = [call["name"] for call in forced.invoke(QUESTION).tool_calls]
    shaped = chat(speaker, max_tokens=300).with_structured_output(Box, method="json_schema")
    found["shaped"] = shaped.invoke(QUESTION).model_dump()
    called = chat(speaker, max_tokens=300).with_structured_output(
        Box, method="function_calling", strict=True
    )
    found["shaped_by_call"] = called.invoke(QUESTION).model_dump()
    try:
        chat("nobody").invoke(QUESTION)
    except openai.NotFoundError as error:
        found["error"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
