from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.bundles import INFERENCE, inference, write_bundle

from segmaformer.export.monai_bundle.configuration import (
    Configuration,
    is_bundle,
    read_bundle,
)
from segmaformer.runtime.errors import InputError


def configuration(**entries: Any) -> Configuration:
    return Configuration("inference.json", entries)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (3, 3),
        ("batch", "batch"),
        ("@size", [96, 96, 64]),
        ("@size::2", 64),
        ("@size#0", 96),
        ("@nested::name", "x"),
        (["@size::0", {"a": "@flag"}], [96, {"a": True}]),
        ("$not @flag", False),
        ("$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')", "device"),
        ("$np.float32", "float32"),
        ("$torch.float64", "float64"),
        ("$lambda x: x > 0", "positive"),
        ("$None", None),
        ("mail@host", "mail@host"),
    ],
)
def test_values_are_resolved_as_data(written: Any, expected: Any) -> None:
    given = configuration(size=[96, 96, 64], nested={"name": "x"}, flag=True)
    assert given.value(written, "here") == expected


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("$import os", "expression '\\$import os'"),
        ("$@a + @b", "not evaluated"),
        ("$__import__('os').system('touch /tmp/run')", "not evaluated"),
        ("$torch.load('x')", "not evaluated"),
        ("$lambda x: x > 1", "not evaluated"),
        ("$not @a", "not evaluated"),
        ("%other.json::key", "not evaluated"),
        ("@absent", "@absent, which is not there"),
        ("@a::b", "@a::b, which is not there"),
        ("@circle", "refers to itself"),
    ],
)
def test_other_expressions_are_refused_by_name(written: str, complaint: str) -> None:
    given = configuration(a=1, b=2, circle="@circle")
    with pytest.raises(InputError, match=complaint):
        given.value(written, "here")


def test_components_have_the_names_of_their_classes() -> None:
    given = configuration(off={"_target_": "UNet", "_disabled_": "$not @on"}, on=True)
    for target, name in (
        ("UNet", "UNet"),
        ("monai.networks.nets.UNet", "UNet"),
        ("os.system", "os.system"),
        ("scripts.net.UNet", "scripts.net.UNet"),
    ):
        component = given.component({"_target_": target, "_desc_": "text", "a": 1}, "here")
        assert component is not None
        assert (component.name, component.arguments) == (name, {"a": 1})
    enabled = given.component("@off", "here")
    assert enabled is not None
    disabled = given.component({"_target_": "UNet", "_disabled_": True}, "here")
    assert disabled is None


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"a": 1}, "no _target_"),
        ({"_target_": "UNet", "_requires_": "$import os"}, "_requires_"),
        ({"_target_": "UNet", "_mode_": "callable"}, "_mode_"),
        ({"_target_": "UNet", "_disabled_": "$print(1)"}, "not evaluated"),
        ("text", "expected a dictionary"),
    ],
)
def test_other_components_are_refused(entry: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        configuration().component(entry, "here")


def test_a_bundle_is_read(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", inference())
    assert is_bundle(folder)
    assert not is_bundle(tmp_path)
    bundle = read_bundle(folder)
    assert bundle.inference.entries == INFERENCE
    assert bundle.weights == folder / "models/model.pt"


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [("configs/inference.json", "no configs/inference.json"), ("models/model.pt", "download")],
)
def test_missing_files_are_named(tmp_path: Path, missing: str, complaint: str) -> None:
    folder = write_bundle(tmp_path / "bundle", inference())
    (folder / missing).unlink()
    with pytest.raises(InputError, match=complaint):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\x00"])
def test_malformed_files_are_refused(tmp_path: Path, text: str) -> None:
    folder = write_bundle(tmp_path / "bundle", inference())
    (folder / "configs/inference.json").write_text(text)
    with pytest.raises(InputError, match=r"inference\.json"):
        read_bundle(folder)


def test_yaml_is_read_as_data(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    folder = write_bundle(tmp_path / "bundle", inference())
    (folder / "configs/inference.json").unlink()
    path = folder / "configs/inference.yaml"
    path.write_text(json.dumps(INFERENCE))  # JSON is YAML
    assert read_bundle(folder).inference.entries == INFERENCE
    path.write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match=r"inference\.yaml"):
        read_bundle(folder)
