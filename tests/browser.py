"""A headless Chromium, controlled over a pipe with the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_WITHIN_S = 60


class Page:
    """One page, and all errors that it reported."""

    def __init__(self, asked: int, answered: int) -> None:
        self._asked, self._answered = os.fdopen(asked, "wb"), os.fdopen(answered, "rb")
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._asked.write(json.dumps(message).encode() + b"\0")
        self._asked.flush()
        while True:
            reply = self._read()
            if reply.get("id") == number:
                assert "error" not in reply, reply
                result: dict[str, Any] = reply["result"]
                return result

    def open(
        self, page: Path | str, width: int = 1300, height: int = 900, scheme: str = "light"
    ) -> None:
        """Open a file or a URL."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.scheme(scheme)
        self.ask("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def value(self, script: str) -> Any:
        reply = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def wait_for(self, script: str) -> None:
        until = time.monotonic() + _WITHIN_S
        while not self.value(script):
            assert time.monotonic() < until, f"not true in time: {script}"
            time.sleep(0.02)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        pressed = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **(pressed | more))

    def drag(self, places: list[tuple[float, float]]) -> None:
        self.mouse("mousePressed", *places[0])
        for place in places[1:]:
            self.mouse("mouseMoved", *place, button="left", buttons=1)
        self.mouse("mouseReleased", *places[-1])

    def touch(self, places: list[tuple[float, float]]) -> None:
        """Touch the first place, move over the others, and lift the finger."""
        kinds = ["touchStart", *["touchMove"] * (len(places) - 1), "touchEnd"]
        points = [[{"x": x, "y": y}] for x, y in places] + [[]]
        for kind, point in zip(kinds, points, strict=True):
            self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=point)

    def key(self, name: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._answered.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            text += byte
        message: dict[str, Any] = json.loads(text)
        method, detail = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(detail["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{detail['entry']['level']}: {detail['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{detail['type']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(detail["request"]["url"][:60])
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start Chromium with its own profile, and stop it at the end."""
    assert CHROMIUM
    to_read, asked = os.pipe()
    answered, to_write = os.pipe()

    def move_descriptors() -> None:  # Chromium reads from 3 and writes to 4
        read, write = os.dup(to_read), os.dup(to_write)
        os.dup2(read, 3)
        os.dup2(write, 4)

    process = subprocess.Popen(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={profile}", "--remote-debugging-pipe", "--no-first-run",
         "--disable-background-networking"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        close_fds=False, preexec_fn=move_descriptors,  # noqa: PLW1509 - it only moves descriptors
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    page = None
    try:
        page = Page(asked, answered)
        yield page
    finally:
        process.terminate()
        process.wait()
        if page:
            page._asked.close()
            page._answered.close()
