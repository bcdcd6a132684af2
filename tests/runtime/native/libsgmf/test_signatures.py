"""Verdicts on signed packages: the same of Python and of libsgmf."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.native.libsgmf import Handle, Info
from support.packages.signature_cases import CASES, Case, Place, make_place
from support.packages.small_packages import write_package

from segmaformer.runtime.errors import PackageError
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.signatures import Trust
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = Preprocessing(("T1",), (Normalization("zscore"),))
    output = Output((Label(0, "background"), Label(1, "organ")))
    return write_package(tmp_path_factory.mktemp("signed") / "sample.sgmf", spec, output)


def open_in_python(place: Place) -> tuple[str | None, str | None]:
    """Return the name of the key, and the refusal."""
    try:
        signer = Package.open(place.package, Trust(place.keys, place.required)).signer
    except PackageError as error:
        return None, str(error)
    return None if signer is None else signer.name, None


def open_in_c(place: Place) -> tuple[str | None, str | None]:
    options = {} if place.keys is None else {"trusted_keys": os.fsencode(place.keys)}
    handle = Handle(place.package, require_signature=int(place.required), **options)
    if handle.opened == "SGMF_PACKAGE_REFUSED":
        return None, handle.open_message
    assert handle.opened == "SGMF_OK", handle.open_message
    with handle:
        signer = handle.get("info", Info()).signer
    return None if signer is None else signer.decode(), None


@pytest.mark.parametrize("opened", [open_in_python, open_in_c])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_verdict_on_a_package(
    opened: Callable[[Place], tuple[str | None, str | None]],
    case: Case,
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = make_place(package, tmp_path, case)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    signer, refusal = opened(place)
    assert signer == case.signer
    if case.refused is None:
        assert refusal is None
    else:
        assert case.refused in (refusal or "")
