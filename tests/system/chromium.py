"""A real headless Chromium, driven through its DevTools pipe: no port, no driver, no package of Python's.

`with chromium() as browser: page = browser.open(url)`. It is the distribution's, installed by apt-get if it is missing,
for tests that run as root.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "chromium"
WAIT_SECONDS = 60
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-pipe", "--disable-background-networking", "--hide-scrollbars")  # fmt: skip
_KEYS = {"Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13, " ": 32}
_DARK = [{"name": "prefers-color-scheme", "value": "dark"}]


class Browser:
    """The process, and the pipe to it."""

    def __init__(self, folder: Path) -> None:
        """Start it, with a profile in a folder."""
        asked, self._ask = os.pipe()
        self._answers, answered = os.pipe()
        words = [PACKAGE, *_OPTIONS, f"--user-data-dir={folder}"]
        with open(folder / "chromium.log", "wb") as log:  # its end of the pipe are the descriptors 3 and 4
            self._process = subprocess.Popen(
                ["bash", "-c", 'exec 3<&"$0" 4>&"$1"; exec "${@:2}"', str(asked), str(answered), *words],
                pass_fds=(asked, answered), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        os.close(asked)
        os.close(answered)
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []
        """What it told by itself."""

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        os.write(self._ask, json.dumps(order | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], WAIT_SECONDS)
            assert ready, f"Chromium said nothing for {WAIT_SECONDS} s"
            read = os.read(self._answers, 1 << 16)
            assert read, "Chromium has ended"
            self._rest += read
        whole, _, self._rest = self._rest.partition(b"\0")
        return json.loads(whole)

    def open(self, url: str, width: int = 1200, height: int = 900, dark: bool = False) -> "Page":
        """A new page at an address."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.send("Emulation.setEmulatedMedia", features=_DARK if dark else [])
        page.send("Page.navigate", url=url)
        page.wait_until("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(WAIT_SECONDS)
        os.close(self._ask)
        os.close(self._answers)


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        """Take the session that it is attached by."""
        self._browser, self._session = browser, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give an order about this page."""
        return self._browser.send(method, self._session, **parameters)

    def _told(self, *methods: str) -> list[dict[str, Any]]:
        events = self._browser.events
        return [one["params"] for one in events if one.get("sessionId") == self._session and one["method"] in methods]

    def errors(self) -> list[str]:
        """Exceptions, errors and warnings on its console, what a policy refused included."""
        self.run("0")
        entries = [one["entry"] for one in self._told("Log.entryAdded")]
        calls = [one for one in self._told("Runtime.consoleAPICalled") if one["type"] in ("error", "warning", "assert")]
        return [*map(str, self._told("Runtime.exceptionThrown")), *map(str, entries), *map(str, calls)]

    def requests(self) -> list[str]:
        """The addresses it asked for."""
        return [one["request"]["url"] for one in self._told("Network.requestWillBeSent")]

    def run(self, script: str) -> Any:
        """The value of a script; fails if it throws."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until a script's value is true."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.run(condition):
            assert time.monotonic() < end, f"waited {WAIT_SECONDS} s until {condition}"
            time.sleep(0.05)

    def resize(self, width: int, height: int) -> None:
        """Give its window another size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def key(self, name: str) -> None:
        """Press and release a key."""
        code = _KEYS.get(name, 0)
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))  # fmt: skip

    def mouse(self, kind: str, x: float, y: float, clicks: int = 1) -> None:
        """Move, press or release the left button: `mouseMoved`, `mousePressed`, `mouseReleased`."""
        held = 1 if kind == "mousePressed" else 0
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=clicks)

    def click(self, x: float, y: float, clicks: int = 1) -> None:
        """Click, or click twice, at a point."""
        for number in range(1, clicks + 1):
            self.mouse("mousePressed", x, y, number)
            self.mouse("mouseReleased", x, y, number)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is in the window, into which it is scrolled."""
        found = f"const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
        box = "const b = e.getBoundingClientRect(); return {x: b.x, y: b.y, width: b.width, height: b.height};"
        return self.run(f"(() => {{ {found} {box} }})()")

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; its package is installed if it is missing."""
    install()
    folder = Path(tempfile.mkdtemp(prefix="chromium-"))
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()
        shutil.rmtree(folder, ignore_errors=True)


def install() -> None:
    """Install Chromium from the distribution if it is missing. Raises RuntimeError where that cannot be."""
    if shutil.which(PACKAGE):
        return
    if not shutil.which("apt-get") or os.geteuid():
        raise RuntimeError(f"{PACKAGE} is missing, and only root on Debian can install it; install it, or run as root")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", PACKAGE]):
        subprocess.run(["apt-get", *words], env=environment, check=True)
