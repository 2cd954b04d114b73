"""A local preview of the page: served on this machine only, built again when a result file has changed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from kd_bench.entries import corrections_folder, load_entries
from kd_bench.errors import UserError
from kd_bench.leaderboard.export import CSV_FILE, JSON_FILE, write_exports
from kd_bench.leaderboard.page import build_page
from kd_bench.reported import load_reported, shipped_reported
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.verification.record import VERIFICATION_FILE

HOST = "127.0.0.1"
PAGE_FILE = "index.html"
_OWN_NAMES = {HOST, "localhost"}
_CONTENT_TYPES = {".html": "text/html", ".csv": "text/csv", ".json": "application/json"}

_State = frozenset[tuple[str, int, int]]


class Preview:
    """The page and its exports, as the result files are at the moment.

    Args:
        results: what :func:`kd_bench.entries.load_entries` takes.
        reported: folder of the figures from papers; by default those that come with ``kd_bench``.
        tell: is told in a line when something was built or could not be.
    """

    def __init__(self, results: Path, reported: Path | None = None, *, tell: Callable[[str], None]) -> None:
        self.results, self.reported, self.tell = results, reported, tell
        self._lock = Lock()
        self._state: _State | None = None
        self._files: dict[str, bytes] = {}
        self._error = ""

    def files(self) -> dict[str, bytes]:
        """Name → content of the page and its exports.

        Raises:
            UserError: if the results cannot be shown; they are read again once one of their files changes.
        """
        with self._lock:  # requests that come while it is built wait for it
            state = _state_of(self.results, self.reported)
            if state != self._state:
                self._build()
                # what changes while it is built differs from this state, and is seen by the next request
                self._state = state
            if self._error:
                raise UserError(self._error)
            return self._files

    def _build(self) -> None:
        try:
            entries = load_entries(self.results)
            reported = shipped_reported() if self.reported is None else load_reported(self.reported)
            with tempfile.TemporaryDirectory(prefix="lightning-kd-") as folder:
                page = Path(folder) / PAGE_FILE
                build_page(entries, page, reported=reported, exports=True)
                write_exports(entries, page.parent)
                self._files = {name: (page.parent / name).read_bytes() for name in (PAGE_FILE, CSV_FILE, JSON_FILE)}
        except UserError as error:
            self._error = str(error)
            self.tell(f"Not built: {error}")
        else:
            self._error = ""
            self.tell(f"Built: {len(entries)} {'entry' if len(entries) == 1 else 'entries'}")


@contextmanager
def preview_server(preview: Preview, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server that is bound to its port, to be run with ``serve_forever``; closed when the block ends.

    Args:
        preview: what to serve.
        port: where; 0 for any that is free.

    Raises:
        UserError: if the port cannot be had.
    """
    try:
        server = _Server((HOST, port), _handler_of(preview))
    except (OSError, OverflowError) as error:
        raise UserError(_explain(error, port)) from error
    with server:
        yield server


def address_of(server: ThreadingHTTPServer) -> str:
    """The page's address."""
    return f"http://{HOST}:{server.server_port}/"


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # Ctrl-C does not wait for a browser that keeps its connection open
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers have one port


def _handler_of(preview: Preview) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "lightning-kd", ""
        timeout = 60

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:
            """What is asked for is not worth a line."""

        def _answer(self) -> None:
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _OWN_NAMES:
                # a page from elsewhere whose name was pointed to this machine is not to read results
                return self._send(HTTPStatus.MISDIRECTED_REQUEST, b"Ask for http://localhost.\n")
            name = self.path.partition("?")[0].removeprefix("/") or PAGE_FILE
            if name not in (PAGE_FILE, CSV_FILE, JSON_FILE):
                return self._send(HTTPStatus.NOT_FOUND, b"There is only the page, results.csv and results.json.\n")
            try:
                content = preview.files()[name]
            except UserError as error:
                return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, f"error: {error}\n".encode())
            return self._send(HTTPStatus.OK, content, _CONTENT_TYPES[Path(name).suffix])

        def _send(self, status: HTTPStatus, content: bytes, content_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{content_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _state_of(results: Path, reported: Path | None) -> _State:
    """Path, time and size of every file that the page is made from."""
    return frozenset(_described(path) for path in _sources(results, reported))


def _sources(results: Path, reported: Path | None) -> Iterator[Path]:
    for folder, _, names in os.walk(results):
        if RUN_SET_FILE in names:
            wanted = (RUN_SET_FILE, VERIFICATION_FILE)
            yield from (Path(folder, name) for name in names if name in wanted or name.endswith(".npz"))
    yield from corrections_folder(results).glob("*.json")
    if reported is not None:
        yield from reported.glob("*.csv")


def _described(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # gone since it was listed
        return str(path), 0, -1
    return str(path), status.st_mtime_ns, status.st_size


def _explain(error: Exception, port: int) -> str:
    other = f"Give another one, for example --port {port + 1 if 1024 <= port < 65535 else 8001}, or --port 0 for any"
    if isinstance(error, OverflowError):
        return f"{port} is not a port; give a number from 0 to 65535, for example --port 8001, or --port 0 for any."
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} of {HOST} is in use by another program. {other} that is free."
    if isinstance(error, OSError) and error.errno == errno.EACCES:
        return f"port {port} of {HOST} is reserved for the system. {other} that is free."
    return f"cannot listen on port {port} of {HOST}: {error}. {other} that is free."
