"""Licences and bill of materials of the installed distribution."""

from __future__ import annotations

import json
from importlib.metadata import PackagePath, distribution
from pathlib import Path
from typing import Any

import pytest

from segmaformer.runtime.system.digest import sha256_of

ROOT = Path(__file__).parents[1]
MODELS = ("brain", "hippocampus")
EXPRESSION = "Apache-2.0 AND MIT AND CC-BY-SA-4.0"
TEXTS = ("LICENSE", "LICENSES/CC-BY-SA-4.0.txt", "LICENSES/MIT.txt", "NOTICE")


def shipped(name: str) -> PackagePath:
    """Find a file of the distribution's metadata by the end of its path."""
    (found,) = (
        path for path in distribution("segmaformer").files or () if str(path).endswith(f"/{name}")
    )
    return found


def test_the_metadata_names_every_licence() -> None:
    metadata = distribution("segmaformer").metadata
    assert metadata["License-Expression"] == EXPRESSION
    assert sorted(metadata.get_all("License-File") or ()) == sorted(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_the_texts_are_shipped(name: str) -> None:
    text = shipped(f"licenses/{name}").read_text(encoding="utf-8")
    assert text == (ROOT / name).read_text(encoding="utf-8")


def test_the_bill_of_materials_lists_what_is_inside() -> None:
    document: Any = json.loads(shipped("sboms/segmaformer.cdx.json").read_text(encoding="utf-8"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    described = document["metadata"]["component"]
    assert described["version"] == distribution("segmaformer").version
    assert described["licenses"] == [{"expression": EXPRESSION}]
    components = {each["name"]: each for each in document["components"]}
    assert components["nlohmann-json"]["version"].startswith("3.")
    for name in MODELS:
        model = ROOT / f"segmaformer/reference_models/{name}/checkpoint_final.pth"
        assert components[name]["hashes"][0]["content"] == sha256_of(model)
    assert set(components) <= {"nlohmann-json", *MODELS, "libc++", "CUDA runtime"}
