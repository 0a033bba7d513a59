"""Servers for tests, all on 127.0.0.1: an object store, a web server of files, and a proxy that disturbs requests."""

from __future__ import annotations

import http.client
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def object_store() -> Generator[str]:
    """Start an object store that speaks S3, and give its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def upload(folder: Path, address: str, bucket: str, prefix: str = "") -> None:
    """Put all files of a directory into a bucket, which is new if there is no prefix."""
    import obstore
    from obstore.store import S3Store

    if not prefix:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        connection.request("PUT", f"/{bucket}")
        assert connection.getresponse().status == 200
        connection.close()
    keys: Any = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1", "endpoint": address}
    store = S3Store(bucket, **keys, client_options={"allow_http": True})
    for file in folder.rglob("*"):
        if file.is_file():
            obstore.put(store, prefix + file.relative_to(folder).as_posix(), file.read_bytes())


class Faults:
    """Which requests a proxy disturbs, and what it has seen.

    Attributes
    ----------
    of : callable
        Of a path and the number of earlier requests for it: ``500``, ``403``, ``slow``, ``stall`` or ``cut``, or None.
    seen : collections.Counter
        Number of requests by path.
    """

    def __init__(self) -> None:
        self.of: Callable[[str, int], str | None] = lambda path, n_before: None
        self.seen: Counter[str] = Counter()
        self.n_injected = 0

    def next(self, path: str) -> str | None:
        """Return how to disturb a request."""
        fault = self.of(path, self.seen[path])
        self.seen[path] += 1
        self.n_injected += fault is not None
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, each answer waits for the other side to acknowledge its first half.
    disable_nagle_algorithm = True
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], body: bytes, *, n_sent: int | None = None) -> None:
        """Send an answer, or only the first bytes of its body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:n_sent])
        if n_sent is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore that a client has given up."""


@contextmanager
def _served(handler: type[_Handler]) -> Generator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def proxy(address: str, faults: Faults, *, is_of_google: bool = False) -> Generator[str]:
    """Start a proxy of a server that disturbs some requests, and give its address.

    Requests for Google's store become requests for that of Amazon, which only differ in how they are signed and quoted.
    """
    host = address.removeprefix("http://")

    class Handler(_Handler):
        def do_GET(self) -> None:
            fault = faults.next(self.path.partition("?")[0])
            if fault in ("500", "403"):
                return self.answer(int(fault), {"Content-Length": "0"}, b"")
            if fault in ("slow", "stall"):
                time.sleep(0.3 if fault == "slow" else 3.0)
            upstream = http.client.HTTPConnection(host, timeout=60)
            path, _, query = self.path.partition("?")
            signed = {"Authorization": "AWS test:test"} if is_of_google else {}
            path = quote(unquote(path)) if is_of_google else path
            upstream.request(self.command, f"{path}?{query}".rstrip("?"), headers={**self.headers, **signed})
            reply = upstream.getresponse()
            body = reply.read()
            upstream.close()
            skipped = ("connection", "transfer-encoding", "date", "server")
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in skipped}
            headers.setdefault("Content-Length", str(len(body)))
            return self.answer(reply.status, headers, body, n_sent=len(body) // 2 if fault == "cut" else None)

        do_HEAD = do_GET  # noqa: N815

    with _served(Handler) as started:
        yield started


@contextmanager
def web_server(folder: Path) -> Generator[str]:
    """Start a web server of the files in a directory, which answers requests for ranges, and give its address."""

    class Handler(_Handler):
        def do_GET(self) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if path.is_dir():
                return self.answer(200, {"Content-Length": "4", "Content-Type": "text/html"}, b"list")
            if not path.is_file():
                return self.answer(404, {"Content-Length": "0"}, b"")
            content, wanted = path.read_bytes(), re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            headers = {"ETag": f'"{os.stat(path).st_mtime_ns}"', "Accept-Ranges": "bytes"}
            if wanted is None:
                return self.answer(200, headers | {"Content-Length": str(len(content))}, content)
            n = len(content)
            start = int(wanted[1]) if wanted[1] else n - int(wanted[2])
            end = min(int(wanted[2]) + 1, n) if wanted[1] and wanted[2] else n
            headers |= {"Content-Range": f"bytes {start}-{end - 1}/{n}", "Content-Length": str(end - start)}
            return self.answer(206, headers, content[start:end])

        do_HEAD = do_GET  # noqa: N815

    with _served(Handler) as started:
        yield started
