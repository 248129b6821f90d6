"""A server for one browser on this machine, which gives out what was prepared and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from anamorph.errors import UserError

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Pages:
    """What a server has to offer.

    Args:
        page: HTML.
        files: bytes by the names that the page asks for.
    """

    page: str
    files: Mapping[str, bytes]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle of an answer is no news."""


class Viewer:
    """Serves pages on the loopback, under a path that cannot be guessed.

    Only requests that name this server as their host are answered, so that a page of somebody else, which a browser may
    open beside it, learns nothing by a name that it points here.

    Args:
        pages: what there is to read.
        port: to listen on; 0 is any free one.

    Raises:
        UserError: the port is taken.
    """

    def __init__(self, pages: Pages, port: int = 0) -> None:
        token = secrets.token_urlsafe(24)
        held: dict[str, tuple[bytes, str]] = {f"/{token}/": (pages.page.encode(), "text/html; charset=utf-8")}
        held |= {f"/{token}/{name}": (content, "application/octet-stream") for name, content in pages.files.items()}
        try:
            self._server = _Server((LOOPBACK, port), _handler(held))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {port} cannot be listened on ({error}); choose another --port, or leave it out"
            ) from error
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/{token}/"

    def serve(self) -> None:
        """Answer until interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End :meth:`serve`, from another thread."""
        self._server.shutdown()


def _handler(held: dict[str, tuple[bytes, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "anamorph", ""

        def do_GET(self) -> None:
            if self.headers.get("Host") != f"{LOOPBACK}:{self.connection.getsockname()[1]}":
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            elif self.path not in held:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                content, kind = held[self.path]
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in HEADERS.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing: the terminal belongs to the user."""

    return Handler
