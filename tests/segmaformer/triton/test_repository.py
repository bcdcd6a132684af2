"""`sgmf export-triton`: the repository that it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from segmaformer.cli.main import cli
from segmaformer.runtime.package.reader import Package
from segmaformer.triton.repository import PACKAGE_FOLDER, model_configuration, write_model


def export(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["export-triton", *map(str, arguments)])


def test_repository_holds_the_package_the_model_and_its_configuration(
    two_channel_package_path: Path, tmp_path: Path
) -> None:
    options = ("--threads", 3, "--instances", 2, "--variant", "fp32", "--name", "brain")
    result = export(two_channel_package_path, "-o", tmp_path / "models", *options)
    assert result.exit_code == 0, result.output
    model = tmp_path / "models/brain"
    assert sorted(path.name for path in model.iterdir()) == ["1", "config.pbtxt"]
    copy = Package.open(model / "1" / PACKAGE_FOLDER)
    assert copy.manifest_sha256 == Package.open(two_channel_package_path).manifest_sha256
    assert "import TritonPythonModel" in (model / "1/model.py").read_text()
    lines = (model / "config.pbtxt").read_text().splitlines()
    assert 'name: "brain"' in lines
    assert 'input { name: "image" data_type: TYPE_FP32 dims: [2, -1, -1, -1] }' in lines
    assert "instance_group { count: 2 kind: KIND_CPU }" in lines
    parameter = re.compile(r'parameters { key: "(\w+)" value { string_value: "(\w+)" } }')
    given = dict(found.groups() for line in lines if (found := parameter.fullmatch(line)))
    assert given == {"backend": "auto", "threads": "3", "variant": "fp32"}


def test_gpu_instances_are_asked_for(two_channel_package_path: Path) -> None:
    manifest = Package.open(two_channel_package_path).manifest
    assert "kind: KIND_GPU" in model_configuration(manifest, "brain", device="cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "../brain"), "cannot name a model"),
        (("--variant", "int8"), "has no variant 'int8'"),
        (("--instances", "0"), "--instances"),
    ],
)
def test_wrong_usage_writes_nothing(
    options: tuple[str, ...], message: str, two_channel_package_path: Path, tmp_path: Path
) -> None:
    result = export(two_channel_package_path, "-o", tmp_path / "models", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "models").exists()


def test_existing_model_stays(two_channel_package_path: Path, tmp_path: Path) -> None:
    package = Package.open(two_channel_package_path)
    (tmp_path / "brain").mkdir()
    with pytest.raises(FileExistsError, match="give another --name"):
        write_model(package, tmp_path, "brain")
    assert list((tmp_path / "brain").iterdir()) == []


def test_failure_leaves_no_model(
    two_channel_package_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("segmaformer.triton.repository.copy_package", fail)
    with pytest.raises(OSError, match="no room"):
        write_model(Package.open(two_channel_package_path), tmp_path, "brain")
    assert list(tmp_path.iterdir()) == []
