"""A web server on this machine that serves one file, as well or as badly as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kd_bench.models import download


@dataclass
class Site:
    """What the server answers, and what it was asked.

    Attributes:
        content: the file.
        etag: its version.
        ranges: whether the server understands requests for a part.
        break_after: answers in turn end after so many bytes; whole ones follow.
        statuses: answers in turn have these error codes; good ones follow.
        content_type: of the answers.
        requests: headers of the requests, in order.
    """

    url: str = ""
    content: bytes = b""
    etag: str | None = '"v1"'
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    content_type: str = "application/octet-stream"
    requests: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 10.0)
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/teachers/ckpt_epoch_240.pth"
    yield site
    server.shutdown()
    server.server_close()
    thread.join(10)


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(dict(self.headers))
            if site.statuses:
                self.send_error(site.statuses.pop(0))
                return
            start = self._start()
            if start is not None and start >= len(site.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = site.content[start or 0 :]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Type", site.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.break_after.pop(0)] if site.break_after else body)

        def _start(self) -> int | None:
            wanted = self.headers.get("Range")
            changed = self.headers.get("If-Range", site.etag) != site.etag
            if wanted is None or changed or not site.ranges:
                return None
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *_: object) -> None:
            """Nothing: the tests read ``site.requests``."""

    return Handler
