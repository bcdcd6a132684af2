"""Check of what commands print with --json against the published schema."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

import pytest

SCHEMA = importlib.resources.files("segmaformer.cli").joinpath("sgmf.schema.json")


def check_document(command: str, document: Any) -> None:
    """Refuse a document that its command's schema does not describe to the last property."""
    jsonschema = pytest.importorskip("jsonschema")
    kind = "error" if "error" in document else command
    schema = {**_closed_schema(), "$ref": f"#/$defs/{kind}"}
    schema.pop("anyOf")
    jsonschema.Draft202012Validator(schema).validate(document)


@functools.cache
def _closed_schema() -> dict[str, Any]:
    """Return the schema without room for properties that it does not name."""
    schema = json.loads(SCHEMA.read_text())
    found: dict[str, Any] = _closed(schema)
    return found


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
