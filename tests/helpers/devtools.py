"""A headless browser by the DevTools protocol: open a page, draw with the mouse, run JavaScript, take a picture."""

import base64
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any


class Browser:
    """One page of one browser; `websocket` is the module of websocket-client."""

    def __init__(self, program: str, folder: Path, websocket: ModuleType, *, port: int = 9333) -> None:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"]
        flags += [f"--remote-debugging-port={port}", f"--user-data-dir={folder / 'profile'}"]
        flags += ["--remote-allow-origins=*"]
        self._process = subprocess.Popen([program, *flags, "about:blank"], stderr=subprocess.DEVNULL)
        self._websocket, self._port, self._count = websocket, port, 0

    def __enter__(self) -> "Browser":
        deadline = time.monotonic() + 60
        while True:
            try:
                pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json", timeout=5))
                address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
                break
            except (OSError, StopIteration):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        self._socket = self._websocket.create_connection(address, timeout=120)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> Any:
        """What the browser answers to a command of the protocol."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._count:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, address: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=address)

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression; None while it raises."""
        return self.call("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def wait(self, condition: str, *, seconds: float = 120) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.2)

    def draw(self, selector: str, points: list[tuple[float, float]]) -> None:
        """Drag the mouse through points of an element, given as shares of its width and height."""
        box = self.run(f"JSON.stringify([...document.querySelectorAll('{selector}')].at(-1).getBoundingClientRect())")
        box = json.loads(box)
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        for number, (x, y) in enumerate(places):
            kind = "mousePressed" if number == 0 else "mouseMoved"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            time.sleep(0.05)
        x, y = places[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """The page as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
