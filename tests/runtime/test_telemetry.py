"""Checks that nothing leaves the machine, and no identifier of it is kept.

ONNX Runtime's uploader and OpenVINO's run in processes of their own here, with a home folder that
is empty before and must be empty after: both write their identifier there first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys

reached = []
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "urllib.Request"):
        reached.append((event, str(arguments)))
sys.addaudithook(watch)
import numpy as np
from segmaformer.runtime import Package
from segmaformer.runtime.backends import open_session

package = Package.open(sys.argv[1])
session = open_session(package, backend=sys.argv[2], variant="fp32")
session.run(np.zeros((1, 1, *package.manifest.tiling.tile), np.float32))
print(reached)
"""


def run(home: Path, package: Path, backend: str) -> str:
    """Run a network with an empty home folder; returns the addresses that Python looked up."""
    home.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        # Where these are set, telemetry is off without our doing.
        if name not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
    }
    places = {"HOME": str(home), "SGMF_CACHE": str(home.parent / "engines")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(package), backend],
        env=environment | places,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_send_and_keep_nothing(
    tmp_path: Path, tiny_package_path: Path, backend: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    assert run(tmp_path / "home", tiny_package_path, backend) == "[]"
    assert list((tmp_path / "home").iterdir()) == []


def test_openvino_is_found_whole_afterwards(tiny_package_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino_telemetry")
    code = (
        "from segmaformer.runtime.backends.openvino import import_openvino\n"
        "import sys; assert import_openvino().convert_model\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "import openvino_telemetry"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_a_choice_that_was_made_stays(tmp_path: Path, given: str | None, kept: str) -> None:
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    if given is not None:
        environment["ORT_DISABLE_TELEMETRY"] = given
    code = "import os, segmaformer; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == kept
