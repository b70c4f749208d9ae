"""The OpenAPI document is the contract: complete, sound, and the committed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferry_cli.__main__ import main
from ota_server.commands.openapi import document
from tests.support.calls import Caller
from tests.support.fleet import TestServer

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(document())
    return value


def operations(described: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    return []


def test_the_committed_document_is_this_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """`ferry openapi > docs/openapi.json` brings it up to date."""
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == COMMITTED.read_text()


def test_the_document_is_the_same_every_time_and_the_one_served(shared: TestServer) -> None:
    assert document() == document()
    assert Caller(shared.url)("GET", "openapi.json").json == json.loads(document())


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    found = references(described)
    assert found
    for reference in found:
        value: Any = described
        for step in reference.removeprefix("#/").split("/"):
            value = value[step]
        assert isinstance(value, dict)


def test_every_operation_says_what_it_is_for(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations(described):
        assert method in METHODS
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path


def test_every_path_parameter_is_declared(described: dict[str, Any]) -> None:
    for path, _, operation in operations(described):
        declared = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_every_call_of_the_api_takes_a_token_and_answers_problems(described: dict[str, Any]) -> None:
    for path, _, operation in operations(described):
        if not path.startswith("/api/v1"):
            assert path == "/healthz"
            continue
        assert operation["security"] == [{"HTTPBearer": []}], path
        refusals = {code: item for code, item in operation["responses"].items() if not code.startswith("2")}
        assert {"401", "403", "404", "409", "413", "422", "507"} <= refusals.keys()
        for refusal in refusals.values():
            assert list(refusal["content"]) == ["application/problem+json"]


def test_every_write_describes_its_body(described: dict[str, Any]) -> None:
    bodiless = ("/withdraw", "/{action}")
    for path, method, operation in operations(described):
        if method in {"put", "post", "patch"} and not path.endswith(bodiless):
            assert operation["requestBody"]["required"], path


def test_schemas_are_json_schema(described: dict[str, Any]) -> None:
    kinds = {"object", "array", "string", "integer", "number", "boolean", "null"}

    def check(schema: Any) -> None:
        if isinstance(schema, dict):
            if "type" in schema and isinstance(schema["type"], str):
                assert schema["type"] in kinds, schema
            if isinstance(schema.get("required"), list):
                assert set(schema["required"]) <= set(schema.get("properties", {})), schema

    for schema in described["components"]["schemas"].values():
        check(schema)
        for inner in schema.get("properties", {}).values():
            if not isinstance(inner.get("type"), dict):
                check(inner)
