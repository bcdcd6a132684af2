from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.packages.samples import flip_byte, write_scan
from support.packages.small_packages import write_package

from segmaformer.cli.console import versioned
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

Sgmf = Callable[..., Any]
NO_MODEL = "no model is chosen; add one with `sgmf models add PACKAGE`, or name one with -m/--model"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGMF_MODELS", str(tmp_path / "data" / "models"))
    return tmp_path / "data" / "models"


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path]:
    """Write packages of two and three labels."""
    spec = Preprocessing(("MR",), (Normalization("zscore"),))
    return {
        f"labels{count}": write_package(
            tmp_path / f"labels{count}.sgmf",
            spec,
            Output(tuple(Label(value, f"organ {value}") for value in range(count))),
        )
        for count in (2, 3)
    }


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.nii.gz")


def digest(package: Path) -> str:
    return Package.open(package).manifest_sha256


def names(listing: str) -> list[str]:
    return [model["name"] for model in json.loads(listing)["models"]]


def test_an_added_model_is_simply_there(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path
) -> None:
    run = sgmf("infer", scan)
    assert (run.code, run.stdout) == (2, "")
    assert NO_MODEL in run.stderr
    assert not store.exists()
    added = sgmf("models", "add", packages["labels2"])
    assert added.code == 0
    short = digest(packages["labels2"])[:12]
    assert f"added labels2, {short}, to {store}" in added.stderr
    assert "labels2 is the chosen model" in added.stderr
    shutil.rmtree(packages["labels2"])
    run = sgmf("infer", scan)
    assert (run.code, run.stdout) == (0, f"{scan.with_name('scan_seg.nii.gz')}\n")
    assert f"model: labels2, {short}, the chosen one\n" in run.stderr


@pytest.mark.parametrize(
    ("variable", "option", "expected"),
    [
        (None, None, "labels2"),
        ("labels3", None, "labels3"),
        ("labels2", "labels3", "labels3"),
        ("labels3", "labels2", "labels2"),
        (None, "path of labels3", "labels3"),
        ("path of labels3", None, "labels3"),
    ],
)
def test_the_option_wins_over_the_variable_and_both_over_the_choice(
    sgmf: Sgmf,
    store: Path,
    packages: dict[str, Path],
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    option: str | None,
    expected: str,
) -> None:
    for package in packages.values():
        sgmf("models", "add", package)
    given = {f"path of {name}": str(path) for name, path in packages.items()}
    if variable is not None:
        monkeypatch.setenv("SGMF_MODEL", given.get(variable, variable))
    arguments = () if option is None else ("-m", given.get(option, option))
    assert sgmf("infer", scan, *arguments).code == 0
    record = json.loads(scan.with_name("scan_seg.run.json").read_text())
    assert digest(packages[expected]) in json.dumps(record)


def test_a_path_that_exists_wins_and_this_is_said(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path
) -> None:
    sgmf("models", "add", packages["labels2"], "--name", "brain")
    shutil.copytree(packages["labels3"], "brain")
    run = sgmf("inspect", "brain", "--json")
    assert len(json.loads(run.stdout)["labels"]) == 3
    assert "brain is a path here, so the model of that name is not used" in run.stderr
    chosen = sgmf("infer", scan)
    assert f"model: brain, {digest(packages['labels2'])[:12]}" in chosen.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "brain"),
        ("check", "SCAN", "-m", "brain"),
        ("verify", "brain"),
        ("infer", "SCAN", "-m", "brain"),
    ],
)
def test_every_command_takes_a_name(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path, arguments: tuple[str, ...]
) -> None:
    sgmf("models", "add", packages["labels2"], "--name", "brain")
    run = sgmf(*(str(scan) if each == "SCAN" else each for each in arguments))
    assert f"model: brain, {digest(packages['labels2'])[:12]}" in run.stderr
    assert run.code != 2


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "build"])
def test_a_name_that_is_neither_path_nor_model_is_wrong_usage(
    sgmf: Sgmf, store: Path, command: str
) -> None:
    run = sgmf(command, "brain")
    assert run.code == 2
    assert "brain does not exist here, and no model has that name" in run.stderr
    assert not store.exists()


def test_a_model_in_the_store_is_not_calibrated(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], tmp_path: Path
) -> None:
    sgmf("models", "add", packages["labels2"], "--name", "brain")
    run = sgmf("calibrate", "brain", tmp_path)
    assert run.code == 2
    assert "brain is a model in the store, where packages do not change" in run.stderr


def test_models_are_listed_chosen_and_removed(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path
) -> None:
    listed = json.loads(sgmf("models", "list", "--json").stdout)
    assert listed == versioned({"store": None, "models": []})
    for package in packages.values():
        sgmf("models", "add", package)
    short = {name: digest(path)[:12] for name, path in packages.items()}
    assert sgmf("models", "list").stdout.splitlines() == [
        f"*  labels2  {short['labels2']}",
        f"   labels3  {short['labels3']}",
    ]
    assert f"labels3, {short['labels3']}, is the chosen" in sgmf("models", "use", "labels3").stderr
    found = json.loads(sgmf("models", "list", "--json").stdout)["models"]
    assert [(each["name"], each["chosen"], each["problem"]) for each in found] == [
        ("labels2", False, None),
        ("labels3", True, None),
    ]
    assert "no model is chosen now" in sgmf("models", "remove", "labels3").stderr
    assert names(sgmf("models", "list", "--json").stdout) == ["labels2"]
    assert NO_MODEL in sgmf("infer", scan).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("use", "brain"), 2, "there is no model 'brain'"),
        (("remove", "../labels2.sgmf"), 2, "there is no model '../labels2.sgmf'"),
        (("add", "PACKAGE", "--name", "../brain"), 2, "'../brain' cannot name a model"),
        (("add", "PACKAGE", "--name", "a\x1b[2J"), 2, r"'a\x1b[2J' cannot name a model"),
        (("add", "PACKAGE", "--name", "-m"), 2, "'-m' cannot name a model"),
        (("add", "PACKAGE", "--name", ""), 2, "'' cannot name a model"),
        (("add", "."), 2, "cannot name a model"),
        (("add", ".", "--name", "here"), 4, "is no package"),
        (("add", "PACKAGE/fp32.onnx"), 2, "is a file"),
        (("add", "nowhere"), 2, "does not exist"),
        (("nothing",), 2, "No such command"),
    ],
)
def test_wrong_usage_is_told(
    sgmf: Sgmf,
    store: Path,
    packages: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    folder = tmp_path / "no name"
    folder.mkdir()
    monkeypatch.chdir(folder)
    given = [each.replace("PACKAGE", str(packages["labels2"])) for each in arguments]
    run = sgmf("models", *given)
    assert (run.code, run.stdout) == (code, "")
    assert message in run.stderr
    assert not store.exists() or list(store.iterdir()) == []


def test_a_name_is_taken_once(sgmf: Sgmf, store: Path, packages: dict[str, Path]) -> None:
    add = ("models", "add", packages["labels3"], "--name", "labels2")
    sgmf("models", "add", packages["labels2"])
    run = sgmf(*add)
    assert run.code == 2
    assert "there is a model labels2 already; give --replace" in run.stderr
    run = sgmf(*add, "--replace")
    assert (run.code, digest(Path(run.stdout.rstrip()))) == (0, digest(packages["labels3"]))
    assert names(sgmf("models", "list", "--json").stdout) == ["labels2"]


@pytest.mark.parametrize("file", ["manifest.json", "fp32.onnx"])
def test_a_model_that_changed_in_the_store_is_refused(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path, file: str
) -> None:
    place = Path(sgmf("models", "add", packages["labels2"]).stdout.rstrip())
    flip_byte(place / file, 300)
    for arguments in ((), ("-m", "labels2")):
        run = sgmf("infer", scan, *arguments)
        assert (run.code, run.stdout) == (4, "")
        assert str(place) in run.stderr
    if file == "manifest.json":
        run = sgmf("models", "list")
        assert run.code == 4
        assert "the model labels2 changed after it was added" in run.stdout


def test_a_store_that_others_can_write_is_refused_and_paths_still_work(
    sgmf: Sgmf, store: Path, packages: dict[str, Path], scan: Path
) -> None:
    sgmf("models", "add", packages["labels2"])
    store.chmod(0o777)
    for arguments in (("infer", scan), ("infer", scan, "-m", "labels2"), ("models", "list")):
        run = sgmf(*arguments)
        assert (run.code, run.stdout) == (4, "")
        assert "can be written by others" in run.stderr
    assert sgmf("infer", scan, "-m", packages["labels2"]).code == 0
