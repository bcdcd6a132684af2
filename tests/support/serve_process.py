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


class Service:
    """A running ``sgmf serve``; its spool and its log lie in `folder`."""

    def __init__(self, folder: Path, *arguments: str):
        command = [sys.executable, "-m", "segmaformer.cli", "serve", "--port", "0", *arguments]
        self._log = folder / f"log{time.monotonic_ns()}.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--spool", str(folder / "spool"), "--quiet", "0.5"],
                stderr=log,
                stdout=log,
                cwd=folder,
                # Also where SIGINT is ignored here.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        wanted = {
            "port": "--to" in arguments or "--stow" in arguments,
            "http": "--http" in arguments,
        }
        self.wait(lambda: all(self._ports(kind) or not wanted[kind] for kind in wanted))
        self.port, self.http = (next(iter(self._ports(kind)), 0) for kind in wanted)

    def _ports(self, kind: str) -> list[int]:
        return [event[kind] for event in self.events() if kind in event]

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
        import pydicom
        import pynetdicom

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
