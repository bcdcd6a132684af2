from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks.networks import save_tiny_checkpoint
from support.packages.samples import copy_package, edit_manifest, flip_byte, sample_manifest

from segmaformer.cli.commands.inspect import package_facts
from segmaformer.runtime.spec import Label, Output, Region

Sgmf = Callable[..., Any]


def test_a_package_is_described_for_people(sgmf: Sgmf, tiny_package_path: Path) -> None:
    run = sgmf("inspect", tiny_package_path)
    assert (run.code, run.stderr.count("\n")) == (0, 1)
    assert "you trust no key, so its signature was not checked" in run.stderr
    lines = run.stdout.splitlines()
    for line in (
        "package: tiny",
        "network: segmaformer",
        "tile: [32, 32, 48]",
        "spacing_mm: [1.0, 1.0, 1.0]",
        "licence: not recorded",
        "  2: posterior",
        "  fp16:",
        "verified_on: 2 tiles of phantoms (no scan was given)",
    ):
        assert line in lines


def test_a_package_is_described_as_json(sgmf: Sgmf, tiny_package_path: Path) -> None:
    facts = json.loads(sgmf("inspect", tiny_package_path, "--json").stdout)
    assert facts["labels"] == {"0": "background", "1": "anterior", "2": "posterior"}
    assert facts["variants"]["fp32"]["relative_error"] < 1e-4
    assert facts["variants"]["fp16"]["label_agreement"] >= 0.999
    size = (tiny_package_path / "fp16.onnx").stat().st_size
    assert facts["variants"]["fp16"]["bytes"] == size
    assert all(" " not in key for key in facts)


def test_regions_are_described() -> None:
    output = Output(
        (Label(0, "background"), Label(1, "rest of whole"), Label(2, "core")),
        (Region("whole", (1, 2), 1), Region("core", (2,), 2)),
    )
    facts = package_facts(sample_manifest(output=output))
    assert facts["labels"] == {"0": "background", "1": "rest of whole", "2": "core"}
    assert facts["regions"] == ["whole", "core"]


def test_a_checkpoint_is_described(sgmf: Sgmf, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = save_tiny_checkpoint(tmp_path / "best.pth")
    facts = json.loads(sgmf("inspect", path, "--json").stdout)
    assert (facts["network"], facts["tiling"]["tile"]) == ("segmaformer", [32, 32, 48])
    assert facts["labels"]["2"] == "posterior"
    run = sgmf("inspect", path)
    assert (run.code, run.stderr) == (0, "")
    assert f"parameters: {facts['parameters']}" in run.stdout.splitlines()


def test_bare_weights_are_described_without_a_patch_size(sgmf: Sgmf, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = save_tiny_checkpoint(tmp_path / "best.pth")
    torch.save(torch.load(path, weights_only=True)["network_weights"], tmp_path / "bare.pt")
    run = sgmf("inspect", tmp_path / "bare.pt")
    assert (run.code, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert "tiling: -" in lines
    assert "  embed_dims: [12, 12, 18, 24]" in lines
    assert "  use_gate: true" in lines


@pytest.mark.parametrize("as_json", [False, True])
def test_a_damaged_package_is_refused(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path, as_json: bool
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    flip_byte(package / "fp16.onnx", 1000)
    run = sgmf("inspect", package, *["--json"][: int(as_json)])
    assert run.code == 4
    assert "fp16.onnx does not have the SHA-256" in run.stderr
    if as_json:
        assert json.loads(run.stdout)["exit_code"] == 4
    else:
        assert run.stdout == ""


def test_a_package_of_a_later_format_is_refused(
    sgmf: Sgmf, tiny_package_path: Path, tmp_path: Path
) -> None:
    package = copy_package(tiny_package_path, tmp_path)
    edit_manifest(package, '"format_version": "1.0"', '"format_version": "2.0"')
    run = sgmf("inspect", package)
    assert (run.code, run.stdout) == (4, "")
    assert "install a newer segmaformer" in run.stderr


def test_what_is_neither_is_refused(sgmf: Sgmf, tmp_path: Path) -> None:
    run = sgmf("inspect", tmp_path)
    assert (run.code, run.stdout) == (4, "")
    assert "is no package" in run.stderr
    run = sgmf("inspect", tmp_path / "none")
    assert (run.code, run.stdout) == (2, "")
