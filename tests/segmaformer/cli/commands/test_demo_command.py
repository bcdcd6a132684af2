from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import pytest
from support.networks.networks import save_tiny_checkpoint
from support.packages.signing import SigningKey, sign_package

from segmaformer.cli.commands import demo
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.store import ModelStore
from segmaformer.runtime.system.digest import sha256_of

Sgmf = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path, tiny_onnx: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of models; the demo takes a small untrained network in place of the bundled one."""
    pytest.importorskip("nilearn")
    checkpoint = save_tiny_checkpoint(tmp_path / "best.pth")
    monkeypatch.setattr(demo, "bundled_checkpoint", lambda: nullcontext(checkpoint))
    monkeypatch.setattr("segmaformer.export.pipeline.export_onnx", lambda *_, **__: tiny_onnx)
    monkeypatch.setenv("SGMF_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_demo_says_where_everything_is(sgmf: Sgmf, tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "new" / "demo"
    run = sgmf("demo", "-o", folder, "--keep-model")
    assert run.code == 0, run.stderr
    assert "brain is the chosen model" in run.stderr
    assert sorted(path.name.partition("@")[0] for path in store.iterdir()) == [*("brain", "chosen")]
    paths = [Path(line) for line in run.stdout.splitlines()]
    assert [path.name for path in paths] == [
        *("brain.sgmf", "labels.nii.gz", "labels.png", "labels.json", "labels.html")
    ]
    (scan,) = set(folder.iterdir()) - {*paths, folder / "labels.run.json"}
    package = Package.open(paths[0])
    assert package.manifest.verification_tiles.endswith(f"of a scan, SHA-256 {sha256_of(scan)}")
    assert nibabel.load(paths[1]).shape == nibabel.load(scan).shape
    volumes = json.loads(paths[3].read_text())["statistics"]["labels"]
    for label in volumes:
        assert f"{label['name']}: {label['volume_mm3'] / 1000:.2f} ml" in run.stderr


def test_an_unsigned_demo_is_not_kept_once_a_key_is_trusted(
    sgmf: Sgmf, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SigningKey("maker").trust(tmp_path / "keys")
    monkeypatch.setenv("SGMF_TRUST", str(key))
    run = sgmf("demo", "-o", tmp_path / "demo", "--keep-model")
    assert run.code == 4
    assert "the package has no manifest.sig" in run.stderr
    package = Path(run.stdout.splitlines()[0])
    assert ModelStore(store).models() == []
    sign_package(package, SigningKey("maker"))
    assert sgmf("models", "add", package).code == 0


@pytest.mark.parametrize(("module", "extra"), [("torch", "export"), ("nilearn", "demo")])
def test_a_missing_extra_is_named_before_anything_is_written(
    sgmf: Sgmf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    run = sgmf("demo", "-o", tmp_path / "demo")
    assert (run.code, run.stdout) == (1, "")
    assert f"{module} not installed; run: pip install 'segmaformer[{extra}]'" in run.stderr
    assert not (tmp_path / "demo").exists()
