"""A real S3 server on the loopback device, and a proxy in front of it that breaks things.

The proxy speaks raw HTTP/1.1: whatever client is used, it meets what a network does to it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import socket
import struct
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

BUCKET = "sky"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_REGION": "us-east-1",
}
SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 63\r\n"
    b"Connection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>slower</Message></Error>  "
)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Give the address of a moto server with one empty bucket, ``sky``."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client(endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


def client(endpoint: str) -> Any:
    """An S3 client that is not ours: boto3."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


def objects(endpoint: str, prefix: str) -> dict[str, bytes]:
    """Every object below a prefix, by its name there, as boto3 reads it."""
    s3 = client(endpoint)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {
        key.removeprefix(f"{prefix}/"): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in keys
    }


@dataclass
class Faults:
    """What the proxy does, each with a probability per request, in this order.

    Attributes
    ----------
    slow_down : float
        503 SlowDown; the request is not carried out.
    reset_before : float
        The connection is reset; the request is not carried out.
    reset_after : float
        The request is carried out, then the connection is reset: a lost answer.
    stall : float
        The request is carried out; the answer stays away until the client hangs up.
    cut : float
        The answer's body ends half way.
    only : tuple of (str, str)
        A method and a part of the path that a request must have to be harmed; all by default.
    limit : int
        So many faults in all.
    unconditional : bool
        Take the conditions out of requests, like a store that knows none.
    """

    seed: int = 0
    slow_down: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0
    stall: float = 0.0
    cut: float = 0.0
    only: tuple[str, str] = ("", "")
    limit: int = 1_000_000
    unconditional: bool = False
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def choose(self, request: bytes) -> str:
        """The fault that a request meets, or ``none``."""
        method, path = request.split(b" ", 2)[:2]
        wanted_method, wanted_path = self.only
        with self._lock:
            self.done["requests"] += 1
            if not (
                wanted_method in ("", method.decode())
                and wanted_path in path.decode()
                and self.done["faults"] < self.limit
            ):
                return "none"
            draw = self._random.random()
            for name in ("slow_down", "reset_before", "reset_after", "stall", "cut"):
                draw -= getattr(self, name)
                if draw < 0:
                    self.done["faults"] += 1
                    self.done[name] += 1
                    return name
        return "none"


@contextlib.contextmanager
def fault_proxy(endpoint: str, faults: Faults) -> Iterator[str]:
    """Give the address of a proxy to a server, which harms requests as `faults` says."""
    parts = urlsplit(endpoint)
    target = (str(parts.hostname), int(parts.port or 80))
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(0.2)

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(60)
                while (request := _message(connection)) is not None:
                    if not _relay(connection, request, target, faults, ended):
                        return

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            accepting.join()


def _relay(
    connection: socket.socket,
    request: bytes,
    target: tuple[str, int],
    faults: Faults,
    ended: threading.Event,
) -> bool:
    """Carry out one request, or harm it; False when the connection is not to be used again."""
    fault = faults.choose(request)
    if fault == "slow_down":
        connection.sendall(SLOW_DOWN)
        return False
    if fault == "reset_before":
        _reset(connection)
        return False
    if faults.unconditional:
        request = re.sub(rb"(?i)\r\nif-(none-)?match:[^\r]*", b"", request)
    with socket.create_connection(target, timeout=60) as server:
        server.sendall(request)
        answer = _message(server, head_only=request.startswith(b"HEAD "))
    if answer is None or fault == "reset_after":
        _reset(connection)
        return False
    if fault == "stall":
        while not ended.is_set():  # the client's hanging up ends it
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return False
        return False
    if fault == "cut":
        head, _, body = answer.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n" + body[: len(body) // 2])
        _reset(connection)
        return False
    connection.sendall(answer)
    return True


def _message(stream: socket.socket, *, head_only: bool = False) -> bytes | None:
    """Read one whole HTTP message; None when the other side has hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}
    if head_only:
        return data
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        raise ValueError("the proxy does not read chunked bodies")
    if fields.get(b"expect", b"").lower() == b"100-continue":
        raise ValueError("the proxy does not answer Expect")
    missing = int(fields.get(b"content-length", b"0")) - len(body)
    parts = [data]
    while missing > 0:
        more = stream.recv(min(missing, 1 << 20))
        if not more:
            return None
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def credentials_checked(endpoint: str) -> Iterator[None]:
    """Let the server refuse keys that it does not know, which moto does not do by itself."""

    def actions_before_checks(count: str) -> None:
        request = urllib.request.Request(
            f"{endpoint}/moto-api/reset-auth", count.encode(), {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=10).close()

    actions_before_checks("0")
    try:
        yield
    finally:
        actions_before_checks("inf")


def environment(endpoint: str, **seconds: float) -> dict[str, str]:
    """What a process needs to use a server: ``request``, ``total`` and ``lease`` in seconds."""
    patience = {f"SKYTALLY_BUCKET_{name.upper()}_SECONDS": str(v) for name, v in seconds.items()}
    unset = {name: "" for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT") if name in os.environ}
    return CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint} | patience | unset
