"""A host of published models on this machine, which fails as it is asked to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """Attributes:
    files: content by path; a path below "/" is asked for with a redirection to "/cdn".
    cuts: connections that end after so many bytes, one each, before others are whole.
    stall: after the bytes of a cut, wait for `release` instead of ending.
    requests: path and Range of each, as they came.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    stall: bool = False
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    address: str = ""


@contextmanager
def served() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("http://models.test")  # of a client that uses a proxy
            if not path.startswith("/cdn/"):
                self.send_response(302 if path in hub.files else 404)
                self.send_header("Location", f"/cdn{path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers["Range"]
            hub.requests.append((self.path, asked))
            content = hub.files[path.removeprefix("/cdn")]
            start = int(asked[6:-1]) if asked and hub.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            count = hub.cuts.pop(0) if hub.cuts else len(content)
            self.wfile.write(content[start : start + count])
            self.wfile.flush()
            if hub.stall and start + count < len(content):
                hub.stalled.set()
                hub.release.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            hub.release.set()
            server.shutdown()
            thread.join()
