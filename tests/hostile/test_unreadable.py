"""Files and folders that the user may not read or write, through the command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.packages.samples import write_scan
from support.packages.small_packages import write_package

from segmaformer.cli import main
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

FAILED, USAGE, REFUSED, UNVERIFIED = 1, 2, 3, 4


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Write a scan, a folder of scans, a checkpoint's name and a package; give all rights back."""
    (tmp_path / "locked").mkdir(mode=0)
    if os.access(tmp_path / "locked", os.R_OK):
        pytest.skip("this user may read and write everything; run as another one than root")
    output = Output((Label(0, "background"), Label(1, "organ")))
    spec = Preprocessing(("MR",), (Normalization("zscore"),))
    write_package(tmp_path / "model.sgmf", spec, output)
    write_scan(tmp_path / "scan.nii.gz")
    write_scan(tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "model.pth").write_bytes(b"weights")
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o700)


@pytest.mark.parametrize(
    ("locked", "mode", "arguments", "code"),
    [
        ("scan.nii.gz", 0, ("check", "scan.nii.gz"), REFUSED),
        ("scan.nii.gz", 0, ("infer", "scan.nii.gz", "-m", "model.sgmf"), REFUSED),
        ("scans/a.nii.gz", 0, ("infer", "scans", "-m", "model.sgmf", "-o", "out"), REFUSED),
        ("scans", 0, ("infer", "scans", "-m", "model.sgmf", "-o", "out"), REFUSED),
        ("scans", 0, ("check", "scans"), REFUSED),
        ("scans", 0, ("check", "scans/a.nii.gz"), USAGE),
        ("model.sgmf", 0, ("inspect", "model.sgmf"), USAGE),
        ("model.sgmf/manifest.json", 0, ("inspect", "model.sgmf"), UNVERIFIED),
        ("model.sgmf/fp32.onnx", 0, ("infer", "scan.nii.gz", "-m", "model.sgmf"), UNVERIFIED),
        ("model.pth", 0, ("inspect", "model.pth"), USAGE),
        ("model.pth", 0, ("export", "model.pth", "-o", "out.sgmf"), USAGE),
        ("locked", 0o500, ("infer", "scan.nii.gz", "-m", "model.sgmf", "-o", "locked"), FAILED),
        ("locked", 0, ("infer", "scan.nii.gz", "-m", "model.sgmf", "-o", "locked"), USAGE),
    ],
)
def test_it_is_refused_and_named(
    place: Path,
    locked: str,
    mode: int,
    arguments: tuple[str, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (place / locked).chmod(mode)
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    told = "".join(capfd.readouterr())
    assert ended.value.code == code, told
    assert "Traceback" not in told
    assert locked.partition("/")[0] in told
