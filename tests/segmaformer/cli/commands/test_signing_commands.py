"""``sgmf keygen``, ``sgmf sign`` and ``sgmf trust``, and what the other commands make of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.packages.samples import flip_byte
from support.packages.signing import SigningKey, sign_package
from support.packages.small_packages import write_package

from segmaformer.runtime.package.reader import Package, read_manifest
from segmaformer.runtime.package.signatures import Trust
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

Sgmf = Callable[..., Any]

UNCHECKED = "you trust no key, so its signature was not checked"


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("SGMF_KEY_PASSPHRASE", "open sesame")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    spec = Preprocessing(("T1",), (Normalization("zscore"),))
    output = Output((Label(0, "background"), Label(1, "organ")))
    return write_package(tmp_path / "sample.sgmf", spec, output)


@pytest.fixture
def make_key(sgmf: Sgmf, tmp_path: Path) -> Callable[..., Path]:
    """Make a pair of keys, and return the private one's file."""
    pytest.importorskip("cryptography")

    def make(name: str = "maker", *options: str) -> Path:
        run = sgmf("keygen", "-o", tmp_path / name, *options)
        assert run.code == 0, run.stderr
        return tmp_path / f"{name}.key"

    return make


def public(key: Path) -> Path:
    return key.with_suffix(".pub")


def test_a_private_key_is_secret_and_of_pkcs_8(make_key: Callable[..., Path]) -> None:
    key = make_key()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_keys_are_not_replaced(sgmf: Sgmf, make_key: Callable[..., Path]) -> None:
    key = make_key()
    content = key.read_bytes()
    run = sgmf("keygen", "-o", key.with_suffix(""))
    assert (run.code, key.read_bytes()) == (2, content)


def test_a_key_needs_a_passphrase(
    sgmf: Sgmf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.setenv("SGMF_KEY_PASSPHRASE", "")
    assert sgmf("keygen", "-o", tmp_path / "maker").code == 2
    assert not (tmp_path / "maker.key").exists()


def test_from_a_key_to_an_opened_package(
    sgmf: Sgmf, package: Path, make_key: Callable[..., Path]
) -> None:
    key = make_key()
    run = sgmf("sign", package, "--key", key)
    assert run.code == 0, run.stderr
    assert UNCHECKED in sgmf("inspect", package).stderr
    assert sgmf("trust", "add", public(key)).code == 0
    run = sgmf("inspect", package, "--json")
    assert UNCHECKED not in run.stderr
    signer = Package.open(package).signer
    assert signer is not None
    assert json.loads(run.stdout)["signature"] == {"key": signer.key, "name": "maker"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "{}"),
        ("build", "{}", "--backend", "tensorrt"),
        ("check", "{}/fp32.onnx", "-m", "{}"),
        ("infer", "{}/fp32.onnx", "-m", "{}"),
        ("inspect", "{}"),
        ("models", "add", "{}"),
        ("serve", "{}", "--to", "STORE@localhost:11112"),
        ("verify", "{}"),
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("how", ["ring", "option", "required"])
def test_every_command_refuses_an_unsigned_package(
    sgmf: Sgmf, package: Path, tmp_path: Path, arguments: tuple[str, ...], how: str
) -> None:
    if arguments[0] == "serve":
        pytest.importorskip("pynetdicom")
    named = [part.format(package) for part in arguments]
    if how == "ring":
        SigningKey("maker").trust(tmp_path / "config/segmaformer/trust.d")
    if how == "option":
        named += ["--trust", str(SigningKey("maker").trust(tmp_path / "keys"))]
    if how == "required":
        named += ["--require-signature"]
    run = sgmf(*named)
    assert run.code == 4, run.stderr
    assert ("you trust no key" if how == "required" else "has no manifest.sig") in run.stderr


def test_the_store_keeps_the_signature(sgmf: Sgmf, package: Path, tmp_path: Path) -> None:
    key = SigningKey("maker")
    key.trust(tmp_path / "config/segmaformer/trust.d")
    sign_package(package, key)
    assert sgmf("models", "add", package).code == 0
    shutil.rmtree(package)
    run = sgmf("inspect", "sample", "--json")
    assert json.loads(run.stdout)["signature"]["name"] == "maker"


def test_a_second_key_signs_beside_the_first(
    sgmf: Sgmf, package: Path, make_key: Callable[..., Path]
) -> None:
    keys = [make_key("old"), make_key("new")]
    for key in (*keys, keys[0]):
        assert sgmf("sign", package, "--key", key).code == 0
    assert len(json.loads((package / "manifest.sig").read_text())) == 2
    for key in keys:
        signer = Package.open(package, Trust(public(key))).signer
        assert signer is not None
        assert signer.name == key.stem


def test_a_release_is_signed(sgmf: Sgmf, package: Path, make_key: Callable[..., Path]) -> None:
    key, other = make_key(), make_key("other")
    assert sgmf("sign", package, "--key", other).code == 0
    assert sgmf("sign", package, "--key", key, "--release", 7).code == 0
    assert read_manifest(package).release == 7
    assert len(json.loads((package / "manifest.sig").read_text())) == 1
    sgmf("trust", "add", public(key), "--least-release", "sample=7")
    assert sgmf("inspect", package).code == 0
    sgmf("trust", "add", public(key), "--least-release", "sample=8")
    run = sgmf("inspect", package)
    assert run.code == 4
    assert "allows none before release 8" in run.stderr


def test_an_altered_package_is_not_signed(
    sgmf: Sgmf, package: Path, make_key: Callable[..., Path]
) -> None:
    key = make_key()
    flip_byte(package / "fp32.onnx", 50)
    assert sgmf("sign", package, "--key", key).code == 4
    assert not (package / "manifest.sig").exists()


def test_a_wrong_passphrase_is_said(
    sgmf: Sgmf, package: Path, make_key: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key()
    monkeypatch.setenv("SGMF_KEY_PASSPHRASE", "open barley")
    run = sgmf("sign", package, "--key", key)
    assert run.code == 1
    assert "cannot be read as a private key" in run.stderr


def test_keys_are_listed_changed_and_removed(
    sgmf: Sgmf, package: Path, make_key: Callable[..., Path], tmp_path: Path
) -> None:
    assert "you trust no key" in sgmf("trust", "list").stderr
    key = make_key("maker", "--not-after", "2999-12-31")
    sgmf("sign", package, "--key", key)
    sgmf("trust", "add", public(key))
    (listed,) = json.loads(sgmf("trust", "list", "--json").stdout)["keys"]
    assert (listed["name"], listed["not_after"]) == ("maker", "2999-12-31")
    sgmf("trust", "add", public(key), "--revoked")
    assert "revoked" in sgmf("trust", "list").stdout
    assert "maker is revoked" in sgmf("inspect", package).stderr
    assert sgmf("trust", "remove", "maker").code == 0
    assert sgmf("trust", "remove", "maker").code == 2
    assert sgmf("inspect", package).code == 0


def test_another_key_of_the_same_name_is_refused(
    sgmf: Sgmf, make_key: Callable[..., Path], tmp_path: Path
) -> None:
    sgmf("trust", "add", public(make_key()))
    impostor = tmp_path / "impostor.pub"
    impostor.write_text(json.dumps({**SigningKey("x").trusted(), "name": "maker"}))
    run = sgmf("trust", "add", impostor)
    assert run.code == 2
    assert "holds another key maker" in run.stderr


@pytest.mark.parametrize("day", ["soon", "2028-1-1", "2028-12-31T00:00"])
def test_a_day_has_one_form(sgmf: Sgmf, tmp_path: Path, day: str) -> None:
    key = SigningKey("maker").trust(tmp_path / "keys")
    assert sgmf("trust", "add", key, "--not-after", day).code == 2


def test_openssl_signs_as_well(
    package: Path, make_key: Callable[..., Path], tmp_path: Path
) -> None:
    """As docs/how-to/sign-packages.md has it, for keys in hardware."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key = make_key()
    message, signature = tmp_path / "message", tmp_path / "signature"
    manifest = (package / "manifest.json").read_bytes()
    message.write_bytes(b"segmaformer package 1\n" + manifest)
    options = ["-passin", "env:SGMF_KEY_PASSPHRASE", "-inkey", key, "-rawin", "-in", message]
    command = [openssl, "pkeyutl", "-sign", *options, "-out", signature]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this openssl does not sign by Ed25519")
    trusted = json.loads(public(key).read_text())
    identity = hashlib.sha256(bytes.fromhex(trusted["public_key"])).hexdigest()
    entry = {"key": identity, "signature": signature.read_bytes().hex()}
    (package / "manifest.sig").write_text(json.dumps([entry]))
    signer = Package.open(package, Trust(public(key))).signer
    assert signer is not None
    assert signer.key == identity
