"""A small Hub on 127.0.0.1 with the protocol of huggingface_hub, which it breaks where a test asks for a fault."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from hub_endpoints import Answer, answer
from hub_store import Denied, Store, User


@dataclass
class Fault:
    """Something that goes wrong with requests of a method whose path matches.

    Attributes:
        action: "status" answers with `status` and does nothing; "cut" breaks the connection in the middle of the body,
            of a PUT or POST while it arrives, of a GET while it is answered; "lost" does what was asked and never
            answers; "corrupt" flips a bit of what arrives by PUT or is sent for GET; "delay" waits first, "meanwhile"
            lets something happen first.
        skip, times: leave the first `skip` such requests alone, then strike `times` times.
    """

    method: str
    path: str
    action: Literal["status", "cut", "lost", "corrupt", "delay", "meanwhile"]
    status: int = 500
    skip: int = 0
    times: int = 1
    message: str = "Internal error"
    seconds: float = 0.2
    happens: Callable[[], object] = object
    seen: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is one of those; counts it if it could be."""
        if method != self.method or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.skip < self.seen <= self.skip + self.times


@dataclass(frozen=True)
class Request:
    """A request as it came, and the status of its answer; 0 if there was none."""

    method: str
    path: str
    status: int


class HubServer(ThreadingHTTPServer):
    """The server; `with HubServer(users) as hub` runs it in a thread.

    Args:
        users: by token.

    Attributes:
        store: repositories, users and objects.
        faults: what is to go wrong; a test appends to it.
        requests: all that came, in the order in which they were answered.
    """

    daemon_threads = True

    def __init__(self, users: Mapping[str, User]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = Store(users)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is none of the server's errors."""

    def count(self, method: str, path: str, *, status: int | None = None) -> int:
        """How many requests of a method came whose path matches, and perhaps were answered with a status."""
        return sum(
            request.method == method and bool(re.search(path, request.path)) and status in (None, request.status)
            for request in self.requests
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        faults = [fault for fault in self.server.faults if fault.strikes(self.command, path)]
        actions = {fault.action for fault in faults}
        if "delay" in actions:
            time.sleep(max(fault.seconds for fault in faults))
        for fault in faults:
            fault.happens()
        length = int(self.headers.get("Content-Length", 0))
        if "cut" in actions and self.command != "GET":
            self.rfile.read(length // 2)
            self._hang_up(path)
            return
        body = self.rfile.read(length)
        if "corrupt" in actions and self.command == "PUT":
            body = _corrupted(body)
        refusal = next((Denied(fault.status, fault.message) for fault in faults if fault.action == "status"), None)
        found = self._answer(path, body) if refusal is None else _refusal(refusal)
        if "lost" in actions:
            self._hang_up(path)
            return
        if "corrupt" in actions and self.command == "GET":
            found = Answer(_corrupted(found.body), found.status, found.headers)
        self._send(found, path, cut="cut" in actions)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _answer(self, path: str, body: bytes) -> Answer:
        query = urlsplit(self.path).query
        try:
            return answer(self.command, path, query, self.headers, body, self.server.store, self.server.url)
        except Denied as error:
            return _refusal(error)

    def _send(self, found: Answer, path: str, *, cut: bool) -> None:
        self.server.requests.append(Request(self.command, path, found.status))
        self.send_response(found.status)
        for name, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else found.body
        self.wfile.write(body[: len(body) // 2] if cut else body)
        # An orderly end, but short of what was promised.
        self.close_connection = self.close_connection or cut

    def _hang_up(self, path: str) -> None:
        self.server.requests.append(Request(self.command, path, 0))
        # Not an orderly end: the other side is told that the connection was reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at `requests`."""


def _refusal(error: Denied) -> Answer:
    headers = {"X-Error-Message": error.message, **({"X-Error-Code": error.code} if error.code else {})}
    return Answer(json.dumps({"error": error.message}).encode(), error.status, headers)


def _corrupted(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])
