"""The routes as an OpenAPI document, made of the models that read their bodies."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.wire.bodies import ChatRequest, CompletionRequest
from kamerton.wire.feedback import FeedbackBody
from kamerton.wire.ofrep import EvaluateBody
from kamerton.wire.tokenizing import DetokenizeBody, EmbeddingsBody, TokenizeBody

__all__ = ["openapi_document", "show_openapi"]

_READS: dict[str, tuple[str, str]] = {
    "/": ("What is served and how to call it, for people", "text/html"),
    "/page.css": ("How that page looks", "text/css"),
    "/page.js": ("What that page does", "text/javascript"),
    "/health": ("Whether the gateway runs", "application/json"),
    "/live": ("Whether the gateway runs", "application/json"),
    "/ready": ("Whether requests are answered", "application/json"),
    "/metrics": ("Numbers for Prometheus", "text/plain"),
    "/v1/metrics": ("How the variants do on recorded traffic", "application/json"),
    "/feedback.js": ("Script that asks for feedback under an answer", "text/javascript"),
    "/openapi.json": ("This document", "application/json"),
    "/v1/models": ("What can be asked for", "application/json"),
    "/v1/models/{name}": ("One of the models", "application/json"),
    "/tokenizer_info": ("Special tokens and the chat template", "application/json"),
}
_BODIES: dict[str, tuple[str, type[BaseModel]]] = {
    "/v1/chat/completions": ("Answer a chat", ChatRequest),
    "/v1/completions": ("Go on from texts or tokens", CompletionRequest),
    "/v1/embeddings": ("Turn texts into vectors", EmbeddingsBody),
    "/v1/feedback": ("Judge an answer", FeedbackBody),
    "/ofrep/v1/evaluate/flags": ("Which variants a unit gets, for OpenFeature", EvaluateBody),
    "/ofrep/v1/evaluate/flags/{key}": ("Which variant a unit gets, for OpenFeature", EvaluateBody),
    "/tokenize": ("Turn a text into tokens", TokenizeBody),
    "/detokenize": ("Turn tokens into a text", DetokenizeBody),
}
_STREAMED = ("/v1/chat/completions", "/v1/completions")
_OFREP = "/ofrep/"
_FLAG_ERROR = {
    "type": "object",
    "required": ["errorCode", "errorDetails"],
    "properties": {"errorCode": {"type": "string"}, "errorDetails": {"type": "string"}},
}
"""As OpenFeature's protocol has it."""
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "integer"},
            },
        }
    },
}


def openapi_document(names: Collection[str] = ()) -> dict[str, Any]:
    """Describe the routes.

    Args:
        names: Models that can be asked for.

    Returns:
        An OpenAPI 3.1 document.
    """
    references, schemas = models_json_schema(
        [(body, "validation") for _, body in _BODIES.values()],
        ref_template="#/components/schemas/{model}",
    )
    for schema in schemas["$defs"].values():
        if names and "model" in schema.get("properties", ()):
            schema["properties"]["model"] = {"type": "string", "enum": sorted(names)}
    paths: dict[str, Any] = {}
    for path, (summary, media) in _READS.items():
        paths[path] = {"get": _operation(path, summary, [media])}
    for path, (summary, body) in _BODIES.items():
        given = ["application/json", *(["text/event-stream"] if path in _STREAMED else [])]
        content = {"application/json": {"schema": references[body, "validation"]}}
        is_needed = not path.startswith(_OFREP)
        paths[path] = {
            "post": {
                **_operation(path, summary, given),
                "requestBody": {"required": is_needed, "content": content},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kamerton", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR, "FlagError": _FLAG_ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


async def show_openapi(request: Request) -> Response:
    """Give the document: `GET /openapi.json`.

    Args:
        request: The HTTP request.

    Returns:
        The document.
    """
    return JSONResponse(openapi_document(request.app.state.engine.models))


def _operation(path: str, summary: str, media: list[str]) -> dict[str, Any]:
    forms = ["Error", *(["FlagError"] if path.startswith(_OFREP) else [])]
    schema = {"anyOf": [{"$ref": f"#/components/schemas/{form}"} for form in forms]}
    error = {"application/json": {"schema": schema}}
    return {
        "summary": summary,
        "parameters": [
            {
                "name": found.partition(":")[0],
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }
            for found in re.findall(r"{(.+?)}", path)
        ],
        "responses": {
            "200": {"description": "Done", "content": {each: {} for each in media}},
            "default": {"description": "An error", "content": error},
        },
    }
