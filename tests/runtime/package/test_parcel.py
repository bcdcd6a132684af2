from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.parcel import Parcel
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.signatures import Signer


def test_a_parcel_becomes_the_same_package(two_channel_package_path: Path, tmp_path: Path) -> None:
    signer = Signer("0" * 64, "someone")
    package = dataclasses.replace(Package.open(two_channel_package_path), signer=signer)
    parcel = pickle.loads(pickle.dumps(Parcel.pack(package)))
    arrived = parcel.unpack(tmp_path)
    assert arrived.manifest_sha256 == package.manifest_sha256
    assert arrived.signer == signer
    assert {name: arrived.read(name) for name in arrived.manifest.files} == {
        name: package.read(name) for name in package.manifest.files
    }


def test_a_damaged_parcel_is_refused(two_channel_package_path: Path, tmp_path: Path) -> None:
    parcel = Parcel.pack(Package.open(two_channel_package_path))
    name = next(each for each in parcel.contents if each.endswith(".onnx"))
    contents = {**parcel.contents, name: parcel.contents[name][:-1] + b"!"}
    with pytest.raises(PackageError, match="SHA-256"):
        Parcel(contents, None).unpack(tmp_path)
