"""``sgmf sign``: add a signature to a package."""

from __future__ import annotations

from pathlib import Path

import click

from segmaformer.cli.console import print_path, say
from segmaformer.cli.parameters import EXISTING_FILE, EXISTING_FOLDER
from segmaformer.cli.passphrase import read_passphrase
from segmaformer.runtime.package.signatures import SIGNATURE_FILE
from segmaformer.runtime.system.extras import require_extra


@click.command("sign")
@click.argument("package", type=EXISTING_FOLDER)
@click.option(
    "--key", "key_file", type=EXISTING_FILE, required=True, help="Private key, of `sgmf keygen`."
)
@click.option(
    "--release",
    type=click.IntRange(0, 2**63 - 1),
    help="Number to give the package first, against a return to earlier ones; drops the "
    "signatures that it has.",
)
def command(package: Path, key_file: Path, release: int | None) -> None:
    """Sign PACKAGE, after every hash in it was checked.

    Signatures of other keys stay, so that a package may carry that of an old and of a new key. The
    passphrase is asked for or taken from SGMF_KEY_PASSPHRASE.
    """
    require_extra("cryptography", extra="sign")
    from segmaformer.runtime.package.signing import is_encrypted, read_key, sign_package

    passphrase = read_passphrase(is_new=False) if is_encrypted(key_file) else None
    key = sign_package(package, read_key(key_file, passphrase), release=release)
    say(f"signed by key {key}")
    print_path(package / SIGNATURE_FILE)
