"""A minimal client of Chromium's DevTools protocol, over its pipe: messages that end with a zero byte."""

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --mute-audio"
)

needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: install it to test the page (apt-get install chromium)"
)


class Browser:
    """One headless page. ``problems``: console errors, exceptions, requests that leave this computer."""

    def __init__(self, folder: Path, width: int = 1440, height: int = 900) -> None:
        child_in, self._out = os.pipe()
        self._in, child_out = os.pipe()
        high_in, high_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (child_in, child_out))

        def place() -> None:
            os.dup2(high_in, 3)
            os.dup2(high_out, 4)

        command = [
            PROGRAM,
            *FLAGS.split(),
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=place, close_fds=True, pass_fds=(3, 4)
            )
        for fd in (child_in, child_out, high_in, high_out):
            os.close(fd)
        self._number, self._buffer, self._session = 0, b"", None
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, **params: object) -> dict:
        """Answer to one command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(60)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self, seconds: float) -> dict:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], seconds)[0], "Chromium is silent"
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(str(params["args"]))
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:", "about:")):
                self.problems.append(f"request to {url}")

    def evaluate(self, script: str) -> object:
        """Value of an expression on the page; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && Number(document.body.dataset.settled) > 0")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() >= end:
                raise AssertionError(f"{condition}: never; {self.evaluate('document.body.innerText')!r}")
            time.sleep(0.03)

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=theme)

    def center(self, selector: str) -> tuple[float, float]:
        box = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{box}.scrollIntoView({{block: 'center'}})")
        b = self.evaluate(f"{box}.getBoundingClientRect().toJSON()")
        return b["x"] + b["width"] / 2, b["y"] + b["height"] / 2

    def click(self, selector: str) -> None:
        x, y = self.center(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, selector: str, dx: float, dy: float) -> None:
        x, y = self.center(selector)
        mouse = {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
        for i in (1, 2, 3):
            self.call(
                "Input.dispatchMouseEvent",
                type="mouseMoved",
                x=x + dx * i / 3,
                y=y + dy * i / 3,
                buttons=1,
                **mouse,
            )
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + dx, y=y + dy, **mouse)

    def focus(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")

    def text(self, name: str) -> str:
        return self.evaluate(f"document.getElementById('{name}').textContent")

    def after_frame(self, action: Callable[[], object]) -> None:
        """Does something, and waits until the page has drawn again."""
        before = self.evaluate("document.body.dataset.frame")
        action()
        self.wait(f"document.body.dataset.frame !== '{before}'")

    def picture(self, size: int | None = None) -> np.ndarray:
        """RGBA of the page's picture, drawn anew with size x size pixels, by default those of its maps."""
        if size is None:
            size = self.evaluate("maps.size")
        draw = f"picture.draw(look(), camera(), exact(), {size}, 1, ['glyphs'])"
        url = self.evaluate(f"({draw}, document.getElementById('picture').toDataURL())")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
