"""HTTP on loopback for one browser: who may ask, and what is asked for.

Every request needs the token, a Host that is this server, and no other Origin: another web page, another
user of this machine, or a name that resolves to it get nothing.
"""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from clipscan.errors import ClipscanError
from clipscan.report.serve.answers import Answers
from clipscan.report.serve.decision_store import Outdated

LARGEST = 64 << 20  # bytes of decisions
COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 only. port: 0 for any that is free."""

    daemon_threads = True

    def __init__(self, port: int, token: str, answers: Answers) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.token, self.answers = token, answers
        names = [f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")]
        self.hosts, self.origins = set(names), {f"http://{name}" for name in names}

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no error."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "clipscan", ""
    timeout = 60
    server: Server
    ROUTES: ClassVar[dict[str, str]] = {
        "/": "page", "/api/rows": "rows", "/api/near": "near", "/picture": "picture",
    }  # fmt: skip

    def do_GET(self) -> None:
        """The page, rows, neighbours, pictures."""
        if (found := self._asked()) is None:
            return
        place, asked = found
        name = self.ROUTES.get(place)
        if name is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing here")
            return
        try:
            kind, body = getattr(self.server.answers, name)(asked)
        except (ValueError, KeyError):  # a number that is none, a parameter that is missing
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"this request makes no sense")
        except ClipscanError as wrong:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", str(wrong).encode("utf-8", "replace"))
        else:
            self._send(HTTPStatus.OK, kind, body, keep=name == "picture")

    def do_PUT(self) -> None:
        """Decisions, whole; X-Revision says which the page knew."""
        if (found := self._asked()) is None:
            return
        place, _ = found
        try:
            size, known = (int(self.headers.get(name, "")) for name in ("Content-Length", "X-Revision"))
            if place != "/api/decisions" or not 0 <= size <= LARGEST:
                raise ValueError(place)
        except ValueError:
            self.close_connection = True  # the body was not read
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"this request makes no sense")
            return
        try:
            revision = self.server.answers.save(self.rfile.read(size), known)
        except Outdated:
            self._send(HTTPStatus.CONFLICT, "text/plain", b"another window or server has saved since")
        except ClipscanError as wrong:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", str(wrong).encode("utf-8", "replace"))
        else:
            self._send(HTTPStatus.OK, "application/json", json.dumps({"revision": revision}).encode())

    def _asked(self) -> tuple[str, dict[str, str]] | None:
        """(path, fields) of a request that is allowed; None for any other, which is answered here."""
        try:
            parts = urlsplit(self.path)
            asked = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=20))
        except ValueError:  # too many fields, a bracket without its other
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"this request makes no sense")
            return None
        return (parts.path, asked) if self._allowed(asked) else None

    def _allowed(self, asked: dict[str, str]) -> bool:
        token = self.headers.get("X-Clipscan-Token") or asked.get("token", "")
        origin = self.headers.get("Origin")
        fits = (
            hmac.compare_digest(token.encode(), self.server.token.encode())
            and self.headers.get("Host") in self.server.hosts
            and (origin is None or origin in self.server.origins)
            and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        )
        if not fits:
            self.close_connection = True
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"open the address that clipscan serve printed")
        return fits

    def _send(self, status: HTTPStatus, kind: str, body: bytes, keep: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind + ("" if kind.startswith("image/") else "; charset=utf-8"))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "private, max-age=3600" if keep else "no-store")
        for name, value in COMMON.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold the token."""
