"""Ed25519 in C++, against published vectors and against Python's integers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages.signing import BASE, ORDER, D, P, SigningKey, encoded

from segmaformer.runtime.bindings.signature import check_trusted_key, has_signed
from segmaformer.runtime.errors import PackageError

VECTORS = Path(__file__).parents[2] / "data/ed25519/wycheproof.txt"
KEY = SigningKey("maker")

# Section 7.1 of RFC 8032: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize("vector", RFC_8032)
def test_the_vectors_of_rfc_8032_verify(vector: tuple[str, str, str]) -> None:
    key, message, signature = (bytes.fromhex(part) for part in vector)
    assert has_signed(key, message, signature)
    assert not has_signed(key, message + b"\0", signature)


def _wycheproof() -> list[list[str]]:
    lines = VECTORS.read_text().splitlines()
    return [line.replace("-", "").split(" ") for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("vector", _wycheproof(), ids=lambda vector: vector[0])
def test_the_verdicts_are_those_of_wycheproof(vector: list[str]) -> None:
    key, message, signature = (bytes.fromhex(part) for part in vector[2:])
    assert has_signed(key, message, signature) == (vector[1] == "valid")


@given(message=st.binary(max_size=400), bit=st.integers(0, 511))
@settings(max_examples=40, deadline=None)
def test_one_flipped_bit_is_refused(message: bytes, bit: int) -> None:
    signature = KEY.sign(message)
    assert has_signed(KEY.public, message, signature)
    flipped = int.from_bytes(signature, "little") ^ 1 << bit
    assert not has_signed(KEY.public, message, flipped.to_bytes(64, "little"))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_no_signature(key: bytes, signature: bytes) -> None:
    assert not has_signed(key, b"message", signature)


def test_a_response_that_is_not_reduced_is_refused() -> None:
    signature = KEY.sign(b"message")
    response = int.from_bytes(signature[32:], "little")
    for factor in range(1, 8):
        other = response + factor * ORDER
        malleable = signature[:32] + (other % 2**256).to_bytes(32, "little")
        assert not has_signed(KEY.public, b"message", malleable)


# y of the points whose order divides 8; at order 8 x^2 = -y^2, so that d y^4 + 2 y^2 = 1.
OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
assert (D * OF_ORDER_8**4 + 2 * OF_ORDER_8**2 - 1) % P == 0
SMALL = [0, 1, P - 1, OF_ORDER_8, P - OF_ORDER_8]
ENCODINGS = [
    (y + more * P | sign << 255).to_bytes(32, "little")
    for y in SMALL
    for sign in (0, 1)
    for more in (0, 1)
    if y + more * P < 2**255
]


@pytest.mark.parametrize("key", ENCODINGS, ids=bytes.hex)
def test_a_key_of_small_order_signs_nothing(key: bytes) -> None:
    """A commitment to the same small point and a response of 0 fit many messages of such keys."""
    for commitment in (*ENCODINGS, encoded(BASE)):
        for number in range(8):
            response = number % 2
            signature = commitment + response.to_bytes(32, "little")
            assert not has_signed(key, bytes([number]), signature)


@pytest.mark.parametrize("key", ENCODINGS, ids=bytes.hex)
def test_a_key_of_small_order_is_not_trusted(key: bytes) -> None:
    content = f'{{"name": "x", "public_key": "{key.hex()}"}}'.encode()
    with pytest.raises(PackageError, match="no public key of Ed25519"):
        check_trusted_key(content, "x.pub")


@pytest.mark.parametrize("y", range(2, 19))
def test_a_key_in_a_second_encoding_is_refused(y: int) -> None:
    """Numbers of points below 19 also fit into 255 bits with the modulus on top."""
    content = f'{{"name": "x", "public_key": "{(y + P).to_bytes(32, "little").hex()}"}}'
    with pytest.raises(PackageError, match="no public key of Ed25519"):
        check_trusted_key(content.encode(), "x.pub")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "x.pub is not JSON"),
        ('{"name": "x"}', "lacks public_key"),
        (f'{{"name": "../x", "public_key": "{KEY.public.hex()}"}}', "names no key"),
        (f'{{"name": "", "public_key": "{KEY.public.hex()}"}}', "names no key"),
        (f'{{"name": "x", "public_key": "{KEY.public.hex().upper()}"}}', "no public key"),
        (f'{{"name": "x", "public_key": "{KEY.public.hex()[2:]}"}}', "no public key"),
        (f'{{"name": "x", "public_key": "{KEY.public.hex()}", "not_after": "soon"}}', "not_after"),
        (f'{{"name": "x", "public_key": "{KEY.public.hex()}", "revoked": 1}}', "true or false"),
        (f'{{"name": "{"x" * 70000}", "public_key": ""}}', "larger than 64 KiB"),
    ],
)
def test_what_is_no_key_is_refused(content: str, complaint: str) -> None:
    with pytest.raises(PackageError, match=complaint):
        check_trusted_key(content.encode(), "x.pub")


def test_the_id_of_a_key_is_its_sha256() -> None:
    content = f'{{"name": "x", "public_key": "{KEY.public.hex()}", "not_after": "2030-01-31"}}'
    assert check_trusted_key(content.encode(), "x.pub") == hashlib.sha256(KEY.public).hexdigest()
