"""Chromium without a window, driven over a pipe by its DevTools protocol: what a page really does.

https://chromedevtools.github.io/devtools-protocol: messages are JSON, ended by a zero byte, on
file descriptors 3 (to the browser) and 4 (from it).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_PATIENCE = 90.0  # s


def executable() -> str | None:
    """Return the browser of this machine, if it has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page of a browser; ``troubles`` collects what its console and its network complain of."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self._seen: list[dict[str, Any]] = []
        self.troubles: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def open(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file and wait until it is there, and drawn."""
        self.size(width, height)
        self._seen.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._seen):
            self._note(self._next())
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def size(self, width: int, height: int) -> None:
        """Give the window a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def media(self, scheme: str = "light", media: str = "") -> None:
        """Prefer a colour scheme, or show the page as on a medium, such as ``print``."""
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; an exception fails the test."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send a mouse event: ``mouseMoved``, ``mousePressed``, ``mouseReleased``."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def key(self, key: str) -> None:
        """Press and release a key, such as ``ArrowLeft`` or ``+``."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, to: Path, *, whole: bool = True) -> None:
        """Write what the page looks like as a PNG."""
        content = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        to.write_bytes(base64.b64decode(content["data"]))

    def pdf(self) -> bytes:
        """Return the page as it prints."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], until - time.monotonic())
            assert ready, "the browser does not answer"
            content = os.read(self._receive, 1 << 20)
            assert content, "the browser ended"
            self._rest += content
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        if "method" not in event:
            return
        self._seen.append(event)
        what = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(what["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled":
            self.troubles.append(json.dumps(what["args"]))
        elif event["method"] == "Log.entryAdded":
            self.troubles.append(what["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Run Chromium with a profile of its own, and end it with all its children."""
    found = executable()
    assert found is not None
    here, to_browser = os.pipe()
    from_browser, there = os.pipe()

    def descriptors() -> None:
        kept_in, kept_out = os.dup(here), os.dup(there)
        os.dup2(kept_in, 3)
        os.dup2(kept_out, 4)

    process = subprocess.Popen(
        [found, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=descriptors,
        close_fds=False,
        start_new_session=True,
    )
    os.close(here)
    os.close(there)
    try:
        yield Page(to_browser, from_browser)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_browser)
        os.close(from_browser)
