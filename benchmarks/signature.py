"""Cost of a signature: processor time of opening a package with and without one.

    python benchmarks/signature.py PACKAGE

Opens a copy of the package in turns, unsigned with no key trusted, and signed with one. Needs the
extra ``sign``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from segmaformer.runtime.bindings.op_library import op_library
from segmaformer.runtime.bindings.signature import check_signature
from segmaformer.runtime.package.key_ring import TrustedKey
from segmaformer.runtime.package.reader import read_manifest_file, read_signatures
from segmaformer.runtime.package.signing import read_key, sign_package, write_new_key

ROUNDS = 200


def milliseconds(manifest: bytes, signatures: bytes | None, keys: bytes | None) -> float:
    """Return the processor time of one check."""
    start = time.process_time()
    check_signature(manifest, signatures, keys, required=False)
    return (time.process_time() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    source = parser.parse_args().package
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        package = Path(shutil.copytree(source, Path(folder, "package.sgmf")))
        private, public = Path(folder, "maker.key"), Path(folder, "maker.pub")
        public.write_bytes(TrustedKey("maker", write_new_key(private, b"passphrase")).to_json())
        sign_package(package, read_key(private, b"passphrase"))
        manifest, signatures = read_manifest_file(package), read_signatures(package)
        op_library()  # which running a package loads anyway
        first = milliseconds(manifest, signatures, os.fsencode(public))
        rows = [
            (
                milliseconds(manifest, signatures, None),
                milliseconds(manifest, signatures, os.fsencode(public)),
            )
            for _ in range(ROUNDS)
        ]
    without, signed = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"manifest of {len(manifest)} bytes, median of {ROUNDS} alternating checks")
    print(
        f"no key trusted {without:.3f} ms, one signature {signed:.3f} ms, the first {first:.3f} ms"
    )


if __name__ == "__main__":
    main()
