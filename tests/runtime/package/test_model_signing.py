"""OpenSSF's model-signing on packages: it signs a folder of files, whatever they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.packages.samples import flip_byte
from support.packages.signing import SigningKey, sign_package
from support.packages.small_packages import write_package

from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.signatures import Trust
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

signing = pytest.importorskip("model_signing.signing", reason="model-signing is not installed")
verifying = pytest.importorskip("model_signing.verifying")


def _write_keys(folder: Path) -> tuple[Path, Path]:
    """Write a pair of keys of the kind that model-signing takes."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "private.pem", folder / "public.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_it_signs_and_verifies_a_signed_package(tmp_path: Path) -> None:
    spec = Preprocessing(("T1",), (Normalization("zscore"),))
    output = Output((Label(0, "background"), Label(1, "organ")))
    package = write_package(tmp_path / "sample.sgmf", spec, output)
    maker = SigningKey("maker")
    sign_package(package, maker)
    private, public = _write_keys(tmp_path)
    signature = tmp_path / "sample.sig"
    signing.Config().use_elliptic_key_signer(private_key=private).sign(package, signature)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(package, signature)
    assert Package.open(package, Trust(maker.trust(tmp_path / "keys"))).signer is not None
    flip_byte(package / "fp32.onnx", 40)
    with pytest.raises(ValueError, match=r"fp32\.onnx"):
        verifier.verify(package, signature)
