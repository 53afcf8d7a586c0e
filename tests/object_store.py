"""An S3 server on loopback (moto's), and a proxy before it that fails as networks and services do."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

FAULTS = ("500", "503", "slow", "cut request", "cut answer", "lost answer")
"""500: InternalError. 503: SlowDown. slow: half a second late. cut request: the connection ends within the body that is
sent. cut answer: within the one that comes. lost answer: what was asked is done, and the connection ends."""
SLOW = 0.5
CODES = {"500": ("500 Internal Server Error", "InternalError"), "503": ("503 Slow Down", "SlowDown")}

Fault = Callable[[int, str, str], str]
"""Of a request's number (from 0), method and path one of FAULTS, or the empty string."""


@dataclass
class Proxy:
    """Passes requests on to a server, unless `fault` says how one fails.

    Attributes:
        upstream: port of the server.
        fault: how a request fails.
        requests: method and path of each.
    """

    upstream: int
    fault: Fault = lambda _number, _method, _path: ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    failed: int = 0

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._socket.getsockname()[1])
        self._guard = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head, rest = _head(client)
            if not head:
                return
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            with self._guard:
                number = len(self.requests)
                self.requests.append((method, path))
                fault = self.fault(number, method, path)
                self.failed += bool(fault)
            length = _length(head)
            if b"100-continue" in head.lower():
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if fault == "cut request":
                _read(client, rest, length // 2)
                return
            body = _read(client, rest, length)
            if fault in CODES:
                status, code = CODES[fault]
                text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                client.sendall(answer + (b"" if method == "HEAD" else text))
                return
            if fault == "slow":
                time.sleep(SLOW)
            answer = self._asked(head, body)
            if fault == "lost answer":
                return
            head_end = answer.index(b"\r\n\r\n") + 4
            if fault == "cut answer":
                answer = answer[: head_end + (len(answer) - head_end) // 2]
            client.sendall(answer)

    def _asked(self, head: bytes, body: bytes) -> bytes:
        lines = [
            line for line in head.split(b"\r\n") if line and not line.lower().startswith((b"expect", b"connection"))
        ]
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
            pieces = []
            while piece := server.recv(1 << 16):
                pieces.append(piece)
        answer = b"".join(pieces)
        end = answer.index(b"\r\n\r\n")
        kept = [line for line in answer[:end].split(b"\r\n") if not line.lower().startswith(b"connection")]
        return b"\r\n".join([*kept, b"Connection: close"]) + answer[end:]


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    content = b""
    while b"\r\n\r\n" not in content:
        piece = client.recv(1 << 16)
        if not piece:
            return b"", b""
        content += piece
    end = content.index(b"\r\n\r\n") + 4
    return content[:end], content[end:]


def _length(head: bytes) -> int:
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2]) if lines else 0


def _read(client: socket.socket, begun: bytes, length: int) -> bytes:
    content = bytearray(begun)
    while len(content) < length:
        piece = client.recv(1 << 16)
        if not piece:
            break
        content += piece
    return bytes(content)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def s3_server(bucket: str = "bucket") -> Iterator[int]:
    """The port of an S3 server in a process of its own, with one bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urlopen(Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT"), timeout=10).close()
                break
            except (URLError, OSError):
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def environment(url: str) -> dict[str, str]:
    """What s3fs reads of the environment to reach a server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def content(root: Any) -> dict[str, bytes]:
    """Every file of a store or results folder, local or remote, by its name; but for locks and leases."""
    from repeng.places import is_remote

    if is_remote(root):
        files = {name: root._below(name).read_bytes() for name in root.listing()}
    else:
        files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    return {name: held for name, held in files.items() if not name.rpartition("/")[2].startswith(".")}
