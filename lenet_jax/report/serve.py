"""A folder of runs and sweeps in a browser on this machine: its index, made anew for each visit, and its files."""

import functools
import http
import http.server
import io
from pathlib import Path

from lenet_jax.report.html import to_page
from lenet_jax.report.run_index import index_document

LOOPBACK = "127.0.0.1"
_HOSTS = (LOOPBACK, "localhost")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:"


def make_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of a folder on loopback that only reads; `serve_forever` of it answers until it is interrupted.

    A request must name this machine as its host, so that no page of another site can ask. Nothing outside of the folder
    is served, not even by a symbolic link, and pages may neither load nor send anything.

    Args:
        folder: of runs and sweeps.
        port: of TCP; 0: any that is free, `server.server_port`.

    Raises:
        OSError: if the port is taken.
    """
    return http.server.ThreadingHTTPServer((LOOPBACK, port), functools.partial(_Handler, folder=folder.resolve()))


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Answers GET and HEAD."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        self._folder = folder
        super().__init__(*arguments, directory=str(folder))  # pyright: ignore[reportArgumentType]

    def send_head(self) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Send the head of an answer, and return its body as a file."""
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in _HOSTS:
            self.send_error(http.HTTPStatus.FORBIDDEN)
            return None
        if self.path in ("/", "/index.html"):
            return self._send_index()
        if not Path(self.translate_path(self.path)).resolve().is_relative_to(self._folder):
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def _send_index(self) -> object:
        page = to_page(index_document(self._folder)).encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return io.BytesIO(page)

    def end_headers(self) -> None:
        """End the head of an answer."""
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing for a request."""
