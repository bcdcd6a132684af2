"""The schema of what --json prints: valid, complete, and strict where tests use it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.printed_json import SCHEMA, check_document

from segmaformer.cli.console import SCHEMA_VERSION, versioned
from segmaformer.cli.main import COMMANDS, cli

jsonschema = pytest.importorskip("jsonschema")
FINDING = {"level": "note", "what": "odd", "fix": "none"}


def test_the_schema_is_one_and_has_the_version_that_is_printed() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$defs"]["schema_version"]["const"] == SCHEMA_VERSION


def test_every_command_with_json_is_described() -> None:
    described = json.loads(SCHEMA.read_text())["$defs"]
    for name in COMMANDS:
        command: Any = cli.get_command(None, name)  # type: ignore[arg-type]
        options = {text for part in command.params for text in part.opts}
        assert "--json" not in options or name in described, name


@pytest.mark.parametrize(
    "document",
    [
        {"results": [{"scan": ["a.nii"], "findings": [{**FINDING, "grave": True}]}]},
        {"results": [{"scan": ["a.nii"], "findings": [{**FINDING, "level": "grave"}]}]},
        {"results": [{"findings": []}]},
    ],
)
def test_a_document_that_is_not_described_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check_document("check", versioned(document))
