"""Headless Chromium for tests, driven over a pipe with its DevTools protocol.

It has a profile of its own and no reason to use a network. Mouse and keys are real events
of the browser, not calls of a page's functions.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--hide-scrollbars", "--force-color-profile=srgb"),
)
# Chromium reads commands from this descriptor and writes answers to the next.
_COMMANDS_FD = 3
_FRAME_SECONDS = 30


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """Open page, which keeps everything that it complained about or asked for.

    Attributes
    ----------
    complaints
        Uncaught errors and what the page or the browser wrote to the console.
    requests
        Addresses that were asked for, whether allowed or not.
    """

    def __init__(self, chromium: str, profile: Path, size: tuple[int, int] = (1440, 900)):
        to_browser, self._commands = os.pipe()
        self._answers, from_browser = os.pipe()
        script = f'exec "$0" "$@" {_COMMANDS_FD}<&{to_browser} {_COMMANDS_FD + 1}>&{from_browser}'
        arguments = [chromium, *FLAGS, f"--user-data-dir={profile}"]
        arguments += [f"--window-size={size[0]},{size[1]}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, *arguments],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._received, self._count, self._session = b"", 0, None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._attach(size)

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call("Browser.close", session=False)
        self._process.wait(timeout=30)
        os.close(self._commands)
        os.close(self._answers)

    def open(self, place: Path | str) -> None:
        """Load a file or an address, and forget the complaints about the page before."""
        self.complaints, self.requests = [], []
        self.call("Page.navigate", url=place if isinstance(place, str) else place.as_uri())
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done() "
            ": addEventListener('load', done))"
        )

    def run(self, expression: str) -> Any:
        """Evaluate a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def run_in_frame(self, expression: str) -> Any:
        """Evaluate in the page's sandboxed frame, which has a process of its own."""
        own = self._session
        attached = self.call(
            "Target.attachToTarget", session=False, targetId=self._frame(), flatten=True
        )
        self._session = attached["sessionId"]
        try:
            return self.run(expression)
        finally:
            self._session = own

    def _frame(self) -> str:
        """Wait until the frame's process is there, and name it."""
        end = time.monotonic() + _FRAME_SECONDS
        while time.monotonic() < end:
            for target in self.call("Target.getTargets", session=False)["targetInfos"]:
                if target["type"] == "iframe":
                    return str(target["targetId"])
            time.sleep(0.05)
        raise TimeoutError(f"the page has no frame of its own after {_FRAME_SECONDS} s")

    def settle(self) -> None:
        """Wait until the page has drawn its changes."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float, *, count: int = 1) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            buttons = int(kind == "mousePressed")
            self.mouse(kind, x, y, button="left", buttons=buttons, clickCount=count)
        self.settle()

    def wheel(self, x: float, y: float, delta: float) -> None:
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=delta)
        self.settle()

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.settle()

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(picture))

    def call(self, method: str, *, session: bool = True, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._count += 1
        command: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session and self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _attach(self, size: tuple[int, int]) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            block = os.read(self._answers, 1 << 16)
            if not block:
                raise RuntimeError("Chromium ended")
            self._received += block
        message, _, self._received = self._received.partition(b"\0")
        document: dict[str, Any] = json.loads(message)
        return document

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))
        elif message["method"] == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
