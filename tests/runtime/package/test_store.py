from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.packages.samples import flip_byte, sample_manifest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package import copying
from segmaformer.runtime.package.reader import Package, read_manifest_file
from segmaformer.runtime.package.store import ModelStore, is_model_name, models_folder
from segmaformer.runtime.package.writer import write_files


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "brain.sgmf" / "notes").mkdir(parents=True)
    files = {"fp32.onnx": b"a network", "notes/card.md": b"# Card\n"}
    write_files(tmp_path / "brain.sgmf", sample_manifest(), files)
    return tmp_path / "brain.sgmf"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other.sgmf").mkdir()
    write_files(tmp_path / "other.sgmf", sample_manifest(), {"fp32.onnx": b"another"})
    return tmp_path / "other.sgmf"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "above" / "models")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_package_is_copied_whole_for_the_user_alone(store: ModelStore, package: Path) -> None:
    (package / "surplus").write_bytes(b"not listed")
    old = os.umask(0)
    try:
        model = store.add(package, "brain")
    finally:
        os.umask(old)
    (package / "surplus").unlink()
    assert contents(model.path) == contents(package)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in model.path.rglob("*")}
    assert (modes, stat.S_IMODE(model.path.stat().st_mode)) == ({0o600, 0o700}, 0o700)
    assert model.manifest_sha256 == Package.open(package).manifest_sha256
    assert (store.find("brain"), store.models()) == (model, [model])


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *((name, True) for name in ("a", "Brain-2.1_x", "_", "9", "a" * 64, "CON", "a..b")),
        *((name, False) for name in ("", ".", "..", ".a", "-m", "a/b", "/a", "a@b", "a b")),
        *((name, False) for name in ("a" * 65, "a\n", "a\0", "ä", "\u0661", "a\x1b[2J", "~")),
    ],
)
def test_names(store: ModelStore, package: Path, name: str, fits: bool) -> None:
    assert is_model_name(name) is fits
    if fits:
        assert store.add(package, name) == store.find(name)
        return
    with pytest.raises(ValueError, match=r"cannot name a model; expected 1 to 64 letters"):
        store.add(package, name)
    with pytest.raises(FileNotFoundError, match="there is no model"):
        store.find(name)
    with pytest.raises(FileNotFoundError, match="there is no model"):
        store.remove(name)
    assert list(store.path.iterdir()) == []


def test_a_name_is_replaced_on_request_alone(store: ModelStore, package: Path, other: Path) -> None:
    first = store.add(package, "brain")
    with pytest.raises(FileExistsError, match="a model brain already; give --replace"):
        store.add(other, "brain")
    assert store.find("brain") == first
    second = store.add(other, "brain", replace=True)
    assert (store.models(), list(store.path.iterdir())) == ([second], [second.path])
    assert store.add(other, "brain", replace=True) == second
    assert contents(second.path) == contents(other)


def _flipped(name: str) -> Callable[[Path], object]:
    return lambda package: flip_byte(package / name, 4)


def _linked(name: str) -> Callable[[Path], object]:
    def link(package: Path) -> None:
        (package / name).rename(package.parent / "elsewhere")
        (package / name).symlink_to(package.parent / "elsewhere")

    return link


@pytest.mark.parametrize(
    "change",
    [
        _flipped("fp32.onnx"),
        _flipped("manifest.json"),
        _linked("fp32.onnx"),
        _linked("manifest.json"),
        lambda package: (package / "fp32.onnx").unlink(),
        lambda package: (package / "manifest.json").unlink(),
    ],
)
def test_a_package_that_is_not_whole_is_not_added(
    store: ModelStore, package: Path, other: Path, change: Callable[[Path], object]
) -> None:
    kept = store.add(other, "brain")
    change(package)
    with pytest.raises(PackageError):
        store.add(package, "brain", replace=True)
    assert (store.find("brain"), list(store.path.iterdir())) == (kept, [kept.path])


def test_a_package_that_changes_while_it_is_copied_is_not_added(
    store: ModelStore, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(source: Path) -> bytes:
        manifest = dataclasses.replace(sample_manifest(), name="another")
        files = {"fp32.onnx": b"a network", "notes/card.md": b"# Card\n"}
        write_files(package, manifest, files)
        return read_manifest_file(source)

    monkeypatch.setattr(copying, "read_manifest_file", exchange)
    with pytest.raises(PackageError, match="changed while it was copied"):
        store.add(package, "brain")
    assert list(store.path.iterdir()) == []


def _sealed_again(folder: Path) -> None:
    """Exchange the network and list it in the manifest, as its author might."""
    manifest = Package.open(folder).manifest
    files = {"fp32.onnx": b"exchanged", "notes/card.md": b"# Card\n"}
    write_files(folder, manifest, files)


def _replaced_by_a_link(folder: Path) -> None:
    folder.rename(folder.parent.parent / "moved")
    folder.symlink_to(folder.parent.parent / "moved")


def _replaced_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (_sealed_again, "changed after it was added: the manifest in .* does not have the SHA-256"),
    (_flipped("manifest.json"), "changed after it was added"),
    (lambda folder: (folder / "manifest.json").unlink(), r"has no manifest.json; run: sgmf models"),
    (_linked("manifest.json"), "it is a link"),
    (_replaced_by_a_link, "cannot be opened as a folder"),
    (_replaced_by_a_file, "cannot be opened as a folder"),
    (lambda folder: folder.chmod(0o770), "can be written by others"),
    (lambda folder: (folder / "manifest.json").chmod(0o606), "can be written by others"),
    (lambda folder: folder.parent.chmod(0o777), "can be written by others"),
    (lambda folder: folder.parent.parent.chmod(0o777), "can be written by others"),
]


@pytest.mark.parametrize(("change", "cause"), CHANGES)
def test_a_model_that_changed_or_that_others_can_write_is_refused(
    store: ModelStore, package: Path, change: Callable[[Path], object], cause: str
) -> None:
    model = store.add(package, "brain")
    change(model.path)
    with pytest.raises(PackageError, match=cause):
        store.find("brain")
    with pytest.raises(PackageError, match=cause):
        store.choose("brain")


@pytest.mark.parametrize("change", [change for change, _ in CHANGES[:7]])
def test_a_model_that_changed_can_be_removed(
    store: ModelStore, package: Path, change: Callable[[Path], object]
) -> None:
    change(store.add(package, "brain").path)
    store.remove("brain")
    assert store.models() == []
    store.add(package, "brain")
    assert store.find("brain")


def test_a_link_is_removed_and_not_followed(store: ModelStore, package: Path) -> None:
    _replaced_by_a_link(store.add(package, "brain").path)
    store.remove("brain")
    assert contents(store.path.parent / "moved") == contents(package)


@pytest.mark.parametrize("kind", ["link", "open"])
def test_a_store_that_is_not_the_users_own_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    (tmp_path / "real").mkdir(mode=0o700)
    if kind == "link":
        folder.symlink_to(tmp_path / "real")
    else:
        folder.mkdir()
        folder.chmod(0o775)
    expected = r"is a link" if kind == "link" else r"can be written by others .*chmod go-w"
    with pytest.raises(PackageError, match=expected):
        ModelStore(folder)


def test_two_packages_of_one_name_are_refused(
    store: ModelStore, package: Path, other: Path
) -> None:
    store.add(package, "brain")
    second = store.add(other, "other")
    second.path.rename(second.path.with_name(f"brain@{second.manifest_sha256}"))
    with pytest.raises(PackageError, match="holds 2 packages named brain"):
        store.find("brain")
    store.remove("brain")
    assert store.models() == []


def test_one_model_is_chosen(store: ModelStore, package: Path, other: Path) -> None:
    assert store.chosen_name() is None
    first, second = store.add(package, "brain"), store.add(other, "other")
    assert store.choose("brain") == first
    assert (store.choose("other"), store.chosen_name()) == (second, "other")
    store.remove("brain")
    assert store.chosen_name() == "other"
    store.remove("other")
    assert store.chosen_name() is None
    with pytest.raises(FileNotFoundError, match=r"no model 'brain' in .*; it has none"):
        store.choose("brain")


@pytest.mark.parametrize("content", [b"", b"../etc\n", b"a\nb\n", b"\xff", b"a" * 200])
def test_a_damaged_choice_is_refused_until_a_new_one(
    store: ModelStore, package: Path, content: bytes
) -> None:
    store.add(package, "brain")
    (store.path / "chosen").write_bytes(content)
    (store.path / "chosen").chmod(0o600)
    with pytest.raises(PackageError, match=r"holds no model's name; run: sgmf models use NAME"):
        store.chosen_name()
    store.choose("brain")
    assert store.chosen_name() == "brain"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SGMF_MODELS": "/mine", "XDG_DATA_HOME": "/data"}, "/mine"),
        ({"XDG_DATA_HOME": "/data"}, "/data/segmaformer/models"),
        ({"XDG_DATA_HOME": "data"}, "/home/me/.local/share/segmaformer/models"),
        ({"SGMF_MODELS": ""}, "/home/me/.local/share/segmaformer/models"),
        ({}, "/home/me/.local/share/segmaformer/models"),
    ],
)
def test_the_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("SGMF_MODELS", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert models_folder() == Path(expected)
