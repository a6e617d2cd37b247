"""A collector for what workers export by OTLP over HTTP, in the process of a measurement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Protocol

TRACES_PATH: Final = "/v1/traces"


class KeepBody(Protocol):
    """Takes the body of a request, in the thread that has read it."""

    def __call__(self, path: str, body: bytes, /) -> None:
        """Take one body."""


@contextmanager
def run_collector(keep: KeepBody | None = None) -> Iterator[str]:
    """Run a collector and yield its URL; what `keep` does not take is dropped."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if keep is not None:
                keep(self.path, body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
