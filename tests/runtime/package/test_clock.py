"""A clock that was set back: docs/reference/security.md states what it changes for expired keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.native.native_builds import compile_library
from support.packages.signature_cases import MAKER, PAST
from support.packages.signing import sign_package
from support.packages.small_packages import write_package

from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing

CLOCK = """
#include <ctime>

extern "C" __attribute__((visibility("default"))) std::time_t time(std::time_t* at) noexcept {
  constexpr std::time_t year_2020 = 1577836800;
  if (at) *at = year_2020;
  return year_2020;
}
"""
OPEN = (
    "import sys; from segmaformer.runtime.package.reader import Package\n"
    "print(Package.open(sys.argv[1]).signer.name)"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    spec = Preprocessing(("MR",), (Normalization("zscore"),))
    output = Output((Label(0, "background"), Label(1, "organ")))
    path = write_package(tmp_path / "signed.sgmf", spec, output)
    sign_package(path, MAKER)
    return path


@pytest.mark.parametrize(
    ("facts", "now", "in_2020"),
    [
        ({"not_after": PAST}, f"the key maker ended after {PAST}", "maker"),
        ({"revoked": True}, "the key maker is revoked", "the key maker is revoked"),
    ],
)
def test_an_earlier_clock_brings_an_expired_key_back_and_no_revoked_one(
    package: Path, tmp_path: Path, facts: dict[str, Any], now: str, in_2020: str
) -> None:
    source = tmp_path / "clock.cc"
    source.write_text(CLOCK)
    clock = compile_library(tmp_path / "clock.so", [source], over_op_library=False)
    environment = {**os.environ, "SGMF_TRUST": str(MAKER.trust(tmp_path / "keys", **facts))}
    for changes, expected in (({}, now), ({"LD_PRELOAD": str(clock)}, in_2020)):
        run = subprocess.run(
            [sys.executable, "-c", OPEN, str(package)],
            env=environment | changes,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert expected in run.stdout + run.stderr
        assert (run.returncode == 0) == (expected == "maker")
