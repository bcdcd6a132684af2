"""Real-world checkpoints through the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks.networks import save_tiny_checkpoint
from support.networks.reference_model import HIPPOCAMPUS
from support.packages.samples import write_scan

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from segmaformer.checkpoint import load_checkpoint
from segmaformer.cli.commands.export import package_name
from segmaformer.export import pipeline
from segmaformer.runtime.package.reader import Package

Sgmf = Callable[..., Any]

SETTINGS = ("--set", "num_heads=[1,2,4,5]", "--patch-size", "40,56,40")


@pytest.fixture(scope="module")
def made(cases_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the checkpoints that the script of the cases makes of the bundled one."""
    folder = tmp_path_factory.mktemp("made")
    script = cases_dir / "make_checkpoints.py"
    subprocess.run([sys.executable, script, HIPPOCAMPUS, folder], check=True, cwd=folder)
    return folder


def test_weights_of_lightning_become_a_package(
    sgmf: Sgmf, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hippocampus_onnx: Any
) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: hippocampus_onnx)
    checkpoint = made / "lightning_loss_weight.ckpt"
    run = sgmf("export", checkpoint, *SETTINGS, "-o", tmp_path / "made.sgmf")
    assert run.code == 0, run.stderr
    told = "'model.' under 'state_dict'. Left out, as no part of these: loss.weight."
    assert told in run.stderr
    manifest = Package.open(tmp_path / "made.sgmf").manifest
    assert any(told in sentence for sentence in manifest.network.assumptions)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wrapped_net.pth", "Weights: those under 'net'."),
        ("wrapped_network.pth", "Weights: those under 'network'."),
        ("wrapped_params.pth", "Weights: those under 'params'."),
        ("model.safetensors.index.json", None),
    ],
)
def test_wrapped_weights_are_those_of_the_bundled_checkpoint(
    made: Path, hippocampus_checkpoint: Any, name: str, told: str | None
) -> None:
    checkpoint = load_checkpoint(
        made / name, config={"num_heads": [1, 2, 4, 5]}, patch_size=(40, 56, 40)
    )
    expected = hippocampus_checkpoint.model.state_dict()
    for key, tensor in checkpoint.model.state_dict().items():
        assert torch.equal(tensor, expected[key])
    assert told is None or told in checkpoint.assumptions


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("lightning_ema.ckpt", "--weights state_dict.model or --weights state_dict.ema_model"),
        ("lfs_pointer.pth", "a Git LFS pointer"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    sgmf: Sgmf, made: Path, cases_dir: Path, name: str, complaint: str
) -> None:
    path = made / name if (made / name).exists() else cases_dir / name
    for command in (("export", path, *SETTINGS), ("inspect", path)):
        run = sgmf(*command)
        assert (run.code, run.stdout) == (3, "")
        assert complaint in run.stderr
        assert "damage" not in run.stderr


@pytest.fixture
def two_sets(tmp_path: Path) -> Path:
    document = torch.load(save_tiny_checkpoint(tmp_path / "tiny.pth"), weights_only=True)
    weights = document.pop("network_weights")
    averaged = {f"ema.{name}": tensor + 0.01 for name, tensor in weights.items()}
    last = {f"model.{name}": tensor for name, tensor in weights.items()}
    torch.save({**document, "state_dict": {**last, **averaged}}, tmp_path / "two.ckpt")
    return tmp_path / "two.ckpt"


def test_weights_are_chosen(
    sgmf: Sgmf, two_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_onnx: Any
) -> None:
    monkeypatch.setattr(pipeline, "export_onnx", lambda *_, **__: tiny_onnx)
    run = sgmf("export", two_sets, "--weights", "model", "-o", tmp_path / "last.sgmf")
    assert run.code == 0, run.stderr
    assert re.search(
        r"assumed: Weights: .* 'model\.' .*Left out, .*: ema\.\* \(\d+\)\.", run.stderr
    )
    assert "ema.* (" in (tmp_path / "last.sgmf" / "card.md").read_text()
    facts = json.loads(sgmf("inspect", two_sets, "--weights", "ema", "--json").stdout)
    assert any("'ema.'" in text for text in facts["assumptions"])


@pytest.mark.parametrize("command", ["export", "inspect"])
def test_a_key_that_is_not_there(sgmf: Sgmf, two_sets: Path, command: str) -> None:
    run = sgmf(command, two_sets, "--weights", "averaged")
    assert (run.code, run.stdout) == (2, "")
    assert "--weights state_dict.ema or --weights state_dict.model" in run.stderr


def test_weights_of_a_package(sgmf: Sgmf, tiny_package_path: Path) -> None:
    run = sgmf("inspect", tiny_package_path, "--weights", "model")
    assert run.code == 2
    assert "--weights is for checkpoints" in run.stderr


def test_the_folder_of_an_index(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hippocampus"
    folder.mkdir()
    for file in made.glob("model*"):
        (folder / file.name).symlink_to(file)
    checkpoint = load_checkpoint(folder, config={"num_heads": [1, 2, 4, 5]})
    assert checkpoint.path == folder / "model.safetensors.index.json"
    assert package_name(checkpoint.path) == "hippocampus"
    assert package_name(tmp_path / "best.pth") == "best"


@pytest.mark.parametrize(
    "arguments", [("infer", "scan", "-m"), ("check", "scan", "-m"), ("verify",), ("build",)]
)
def test_a_checkpoint_given_as_the_package(
    sgmf: Sgmf, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "best.pth")
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf(*(str(scan) if part == "scan" else part for part in arguments), checkpoint)
    assert (run.code, run.stdout) == (2, "")
    assert "is a PyTorch checkpoint" in run.stderr
    assert f"sgmf export {checkpoint}" in run.stderr


def test_another_file_given_as_the_package(sgmf: Sgmf, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("infer", scan, "-m", scan)
    assert run.code == 2
    assert "expected the folder of a package" in run.stderr


def test_a_scan_given_as_the_checkpoint(sgmf: Sgmf, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz")
    run = sgmf("export", scan)
    assert (run.code, run.stdout) == (3, "")
    assert "is a NIfTI scan, compressed by gzip" in run.stderr
