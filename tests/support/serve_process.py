"""A running ``sgmf serve``, to send to, to kill and to start again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pynetdicom


class Service:
    """A running ``sgmf serve``."""

    def __init__(self, package: Path, folder: Path, *options: str):
        command = [sys.executable, "-m", "segmaformer.cli", "serve", str(package), "--port", "0"]
        self._log = folder / f"log{time.monotonic_ns()}.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--spool", str(folder / "spool"), "--quiet", "0.5", *options],
                stderr=log,
                stdout=log,
                cwd=folder,
                # Also where SIGINT is ignored here.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        self.wait(lambda: any("port" in event for event in self.events()))
        self.port = next(event["port"] for event in self.events() if "port" in event)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(1200):
            if condition():
                return
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(self.log)

    def send(self, series: Path) -> None:
        entity = pynetdicom.AE(ae_title="CT1")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
        association = entity.associate("127.0.0.1", self.port, ae_title="SGMF")
        assert association.is_established
        for path in sorted(series.iterdir()):
            assert association.send_c_store(pydicom.dcmread(path)).Status == 0
        association.release()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)
