"""The OpenAPI document says what is there."""

import asyncio

from starlette.routing import Route

from kamerton.serving.app import make_app
from kamerton.serving.openapi import openapi_document
from tests.unit.serving.test_gateway import Echo, plain_client


def test_every_route_is_in_the_document_with_its_method():
    routes = {
        route.path.replace(":path", ""): "POST" if "POST" in route.methods else "GET"
        for route in make_app(Echo()).routes
        if isinstance(route, Route)
    }
    assert "/v1/chat/completions" in routes
    told = {
        path: method.upper()
        for path, methods in openapi_document()["paths"].items()
        for method in methods
    }
    assert told == routes


def test_bodies_have_their_fields_and_all_references_lead_somewhere():
    answer = asyncio.run(plain_client(Echo()).get("/openapi.json"))
    document = answer.json()
    schemas = document["components"]["schemas"]
    assert {"model", "messages", "stream"} <= set(schemas["ChatRequest"]["properties"])
    assert schemas["ChatRequest"]["properties"]["model"]["enum"] == ["builtin:nano", "shop"]
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]

    def references(value) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(references, value))
        if not isinstance(value, dict):
            return set()
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))

    found = references(document)
    assert found
    assert found == {f"#/components/schemas/{name}" for name in schemas}
