"""The HTTP service: what a request costs beside its prediction, and that memory stays bounded.

``python benchmarks/service.py --out results/service.json`` runs ``sgmf serve`` with networks of two
convolutions, and drops a request in the middle of a scan of many tiles. For Linux.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from turns import machine

from segmaformer.runtime.backends import BackendOptions
from segmaformer.runtime.package.manifest import Manifest, Network, Variant
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.package.writer import write_files
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.spec import Label, Normalization, Output, Preprocessing, Tiling

TILE = (32, 32, 32)
BOUNDARY = "a-boundary-that-no-scan-holds"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
UPLOADS, UPLOAD_MIB = 200, 32
REQUESTS, WARM_REQUESTS = 1000, 200
CPU_ROUNDS, CPU_REQUESTS = 5, 40


def write_package(folder: Path, *, width: int = 1) -> Path:
    """Write a package of two convolutions, of `width` channels between them."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"first": (width, 1, 3, 3, 3), "second": (2, width, 3, 3, 3)}
    constants = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["tiles", "first"], ["hidden"], pads=[1] * 6),
        helper.make_node("Conv", ["hidden", "second"], ["logits"], pads=[1] * 6),
    ]
    tiles, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *TILE])
        for name, channels in (("tiles", 1), ("logits", 2))
    )
    graph = helper.make_graph(nodes, "tiny", [tiles], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = Manifest(
        name="tiny",
        network=Network("segmaformer", {}, 0, "none", ""),
        preprocessing=Preprocessing(("MR",), (Normalization("zscore"),)),
        tiling=Tiling(TILE),
        output=Output((Label(0, "background"), Label(1, "bright"))),
        variants={"fp32": Variant("fp32.onnx", {"default": "float32"}, {})},
        verification_tiles="none",
        software={},
        created="",
        files={},
    )
    folder.mkdir()
    write_files(folder, manifest, {"fp32.onnx": model.SerializeToString()})
    return folder


def scan_of(edge: int) -> bytes:
    voxels = np.random.default_rng(1).integers(0, 1000, (edge,) * 3, np.int16)
    return bytes(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes())


def form(scan: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="scan"; filename="a"\r\n\r\n'
    return head.encode() + scan + f"\r\n--{BOUNDARY}--\r\n".encode()


class Server:
    """A running ``sgmf serve`` with one thread."""

    def __init__(self, package: Path, *options: str):
        command = [sys.executable, "-m", "segmaformer", "serve", str(package), *options]
        command += ["--http", "127.0.0.1:0", "--threads", "1", "--backend", "onnxruntime"]
        self._log = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  (open as long as the server)
        with open(self._log.name, "w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        while not (found := re.search(r'"http": (\d+)', Path(self._log.name).read_text())):
            assert self.process.poll() is None, Path(self._log.name).read_text()
            time.sleep(0.1)
        self.port = int(found[1])

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(method, path, body, FORM if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def segment(self, body: bytes) -> int:
        return self.ask("POST", "/segment", body)[0]

    def waiting(self) -> int:
        text = self.ask("GET", "/metrics")[1].decode()
        return int(re.findall(r"^sgmf_waiting (\d+)", text, re.MULTILINE)[0])

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mib(self, field: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def serving(package: Path, *options: str) -> Iterator[Server]:
    server = Server(package, *options)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def measure_overhead(package: Path) -> dict[str, Any]:
    """Compare processor time of requests and of the same predictions in this process, in turns."""
    scan = scan_of(32)
    predictor = Predictor(Package.open(package), "onnxruntime", options=BackendOptions(threads=1))
    with serving(package) as server, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scan.nii")
        path.write_bytes(scan)

        def direct() -> None:
            predictor.predict(path).to_bytes()

        def request() -> None:
            assert server.segment(form(scan)) == 200

        sides = {
            "request": (request, server.processor_seconds),
            "prediction": (direct, time.process_time),
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(CPU_ROUNDS):
            for name, (call, clock) in sides.items():
                call()
                found[name].append(_milliseconds(call, clock))
        medians = {f"{name}_ms": statistics.median(each) for name, each in found.items()}
        return {**medians, "overhead_ms": medians["request_ms"] - medians["prediction_ms"]}


def _milliseconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(CPU_REQUESTS):
        call()
    return 1000 * (clock() - start) / CPU_REQUESTS


def measure_uploads(package: Path) -> dict[str, Any]:
    """Send many large bodies at once, which are no scans."""
    body = form(b"x" * (UPLOAD_MIB << 20))
    with serving(package) as server:
        server.segment(form(scan_of(32)))
        before = server.mib("VmRSS")
        with concurrent.futures.ThreadPoolExecutor(UPLOADS) as pool:
            statuses = Counter(pool.map(server.segment, [body] * UPLOADS))
        return {
            "uploads": UPLOADS,
            "upload_mib": UPLOAD_MIB,
            "statuses": {str(status): count for status, count in sorted(statuses.items())},
            "before_mib": before,
            "peak_mib": server.mib("VmHWM"),
        }


def measure_growth(package: Path) -> dict[str, Any]:
    body = form(scan_of(32))
    with serving(package) as server:
        found = {}
        for count in (WARM_REQUESTS, REQUESTS):
            for _ in range(count):
                assert server.segment(body) == 200
            found[count] = (server.mib("VmRSS"), server.descriptors())
        warm, last = found[WARM_REQUESTS], found[REQUESTS]
        return {
            "requests": REQUESTS,
            "after_warm_up_mib": warm[0],
            "at_the_end_mib": last[0],
            "descriptors": [warm[1], last[1]],
        }


def measure_drop(package: Path) -> dict[str, Any]:
    """Drop a request while its network runs, and time how long the work goes on."""
    body = form(scan_of(160))
    with serving(package) as server:
        start = time.perf_counter()
        assert server.segment(body) == 200
        whole = time.perf_counter() - start
        connection = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}"
        connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(whole / 2)
        waiting = server.waiting()
        start = time.perf_counter()
        connection.close()
        while server.waiting():
            time.sleep(0.01)
        return {
            "whole_seconds": whole,
            "waiting_before": waiting,
            "seconds_after_the_drop": time.perf_counter() - start,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_package(Path(folder, "tiny.sgmf"))
        slow = write_package(Path(folder, "slow.sgmf"), width=64)
        results = {
            "overhead": measure_overhead(tiny),
            "uploads": measure_uploads(tiny),
            "growth": measure_growth(tiny),
            "drop": measure_drop(slow),
        }
    print(json.dumps(results, indent=2))
    if arguments.out:
        date = datetime.date.today().isoformat()
        document = {"date": date, "machine": machine(), "results": results}
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
