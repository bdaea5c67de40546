"""A web server on this machine that behaves as real ones do on bad days. Each path plays its answers in order."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class Server:
    """What each path plays (the last answer again and again), what was asked for, and the server's address."""

    address: str
    plays: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # path, Range, If-Range
    over: threading.Event = field(default_factory=threading.Event)

    def play(self, path: str, *answers: Answer) -> str:
        self.plays[path] = list(answers)
        return self.address + path

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    @property
    def ranges(self) -> list[str | None]:
        return [range_ for _, range_, _ in self.asked]


def send(handler: Handler, status: int, content: bytes, *, length: int | None = None, **headers: str) -> None:
    """Send an answer; `length` is what Content-Length claims, -1 for no such header. `_` in names stands for `-`."""
    handler.send_response(status)
    if length != -1:
        handler.send_header("Content-Length", str(len(content) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def fixed(status: int, content: bytes = b"", **headers: str) -> Answer:
    return lambda handler: send(handler, status, content, **headers)


def whole(content: bytes, *, length: int | None = None, **headers: str) -> Answer:
    """Ignore Range and send everything; with a longer `length` the connection is cut."""
    return lambda handler: send(handler, 200, content, length=length, **headers)


def ranged(content: bytes, cut: int | None = None, etag: str | None = None, date: str | None = None) -> Answer:
    """Honour Range and If-Range as RFC 9110 says; send at most `cut` bytes, whatever the header announces."""

    def answer(handler: Handler) -> None:
        headers = {name: value for name, value in (("ETag", etag), ("Last_Modified", date)) if value}
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        status, start = 200, 0
        if asked and condition in (None, etag, date):
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            assert found
            status, start = 206, int(found[1])
            if start >= len(content):
                send(handler, 416, b"", Content_Range=f"bytes */{len(content)}")
                return
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        send(handler, status, rest[:cut], length=len(rest), **headers)

    return answer


def redirect(to: str, status: int = 302) -> Answer:
    return fixed(status, Location=to)


def raw(content: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.wfile.write(content)

    return answer


def endless(piece: bytes, start: bytes = b"HTTP/1.0 200 OK\r\n\r\n") -> Answer:
    """Send `start` and then `piece` again and again."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(piece)

    return answer


@contextmanager
def serving() -> Iterator[Server]:
    class Playing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
            answers = server.plays.get(self.path, [fixed(404)])
            with contextlib.suppress(ConnectionError):  # who asked has heard enough
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Playing) as running:
        server = Server(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            running.shutdown()
            thread.join(timeout=5)
