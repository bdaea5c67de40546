"""Transfers: bytes from one address into one file, resumed where they were cut, within limits of time and size.

A resumed file may be put together from two different ones; whoever starts the transfer says what is wrong with a file,
and it is then received once more from its first byte. The limits hold for headers and redirects too.
"""

from __future__ import annotations

import gzip
import http.client
import io
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import urllib.response
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from firstorder.data.addresses import said
from firstorder.files import open_regular
from firstorder.progress import Track

CHUNK_BYTES = 1 << 16
HEADER_BYTES = 1 << 20  # for headers and redirects, beside the file itself
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be different a little later
# What does not change by waiting.
_LASTING = (str, ValueError, http.client.InvalidURL, ssl.SSLCertVerificationError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Limits:
    """When to try again and when to give a source up. Times are in seconds."""

    silence: float = 20.0  # to connect, and between two received bytes
    lowest_rate: float = 1000.0  # bytes a second, as the mean over `window`
    window: float = 60.0
    tries: int = 4  # in a row that bring less than CHUNK_BYTES more
    pause: float = 1.0  # before the second try, doubled before each further one
    longest_pause: float = 60.0  # also of those that a server asks for
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic


USUAL = Limits()


class UnavailableError(Exception):
    """The archive cannot be had from this source; the next one may have it."""


class PassingError(Exception):
    """One try failed; the next may succeed, after the seconds of `pause` that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class Wanted:
    """What is to be received; `fault` says what is wrong with what has been received so far, None for nothing."""

    name: str
    bytes: int  # its usual size
    most: int  # the largest size that is accepted, in bytes
    fault: Callable[[], str | None]


def size_of(file: BinaryIO) -> int:
    """Return the size in bytes of an open file."""
    return os.fstat(file.fileno()).st_size


@dataclass
class Transfer:
    """Brings one file from one address (http, https or file) into `part`, which is open to append to."""

    address: str
    part: BinaryIO
    wanted: Wanted
    track: Track
    limits: Limits
    validator: str | None = None  # of the file that the last answer was about
    tries: int = 0  # in a row that brought little
    longest: int = 0  # most bytes that the part has had

    def run(self) -> None:
        """Receive until the part is right; raises UnavailableError if the source does not give it."""
        failure = None
        # Right, whatever a server announced: a length may be wrong, and a command be killed after the last byte.
        while self.wanted.fault():
            if failure:
                self.rest(failure)
            try:
                self.receive()
            except PassingError as error:
                failure = error

    def rest(self, failure: PassingError) -> None:
        """Pause before the next try; raises UnavailableError if there shall be none."""
        size = size_of(self.part)
        self.tries = 1 if size >= self.longest + CHUNK_BYTES else self.tries + 1
        self.longest = max(size, self.longest)
        if failure.pause > self.limits.longest_pause:
            raise UnavailableError(f"{failure}, to be asked again in {failure.pause:,.0f} s")
        if self.tries >= self.limits.tries:
            raise UnavailableError(f"{failure}; tried {self.tries} times")
        longer = self.limits.pause * 2.0 ** (self.tries - 1)
        self.limits.sleep(max(failure.pause, min(longer, self.limits.longest_pause)))

    def receive(self) -> None:
        """Append what the source has beyond the part, or take all of it from a source that gives no ranges."""
        with self.ask(size_of(self.part)) as answer:
            start, total = self.placed(answer, size_of(self.part))
            self.part.truncate(start)
            reader: Any = answer
            if (coding := answer.headers.get("Content-Encoding", "identity").lower()) in ("gzip", "x-gzip"):
                reader, total = gzip.GzipFile(fileobj=answer), None
            elif coding != "identity":
                raise UnavailableError(f"Content-Encoding {said(coding)}, expected none")
            with self.track(self.wanted.name, total or self.wanted.bytes, "bytes", start) as bar:
                while chunk := self.next_chunk(reader):
                    self.part.write(chunk)
                    self.part.flush()
                    if size_of(self.part) > self.wanted.most:
                        self.refuse(f"more than the {self.wanted.most:,} bytes expected", joined=start > 0)
                    bar.advance(len(chunk))
        if total and size_of(self.part) < total:
            raise PassingError(f"cut short: {size_of(self.part):,} of {total:,} bytes")
        if fault := self.wanted.fault():
            self.refuse(fault, joined=start > 0 or total is None)  # without a length, it may have been cut

    def ask(self, offset: int) -> Any:
        """Open the address; of http, ask for the bytes from `offset` on, if the file is still the same."""
        headers = {"User-Agent": "firstorder", "Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": self.validator} if self.validator else {})
        with self.asking():
            parts = urllib.parse.urlsplit(self.address)
            if parts.scheme == "file":
                if parts.netloc not in ("", "localhost"):
                    raise ValueError("a file on another machine, expected file:///folder")
                file = open_regular(Path(urllib.request.url2pathname(parts.path)))
                size = Message()
                size["Content-Length"] = str(size_of(file))
                return urllib.response.addinfourl(file, size, self.address, 200)
            opener = urllib.request.build_opener(_Redirects, _Paced(self.limits, self.wanted.most + HEADER_BYTES))
            return opener.open(urllib.request.Request(self.address, headers=headers), timeout=self.limits.silence)

    def placed(self, answer: Any, offset: int) -> tuple[int, int | None]:
        """Return where the answer's first byte belongs in the part, and the size of the whole file if it is known."""
        known, self.validator = self.validator, _validator(answer.headers)
        if answer.status == 200:
            length = re.fullmatch(r"\d{1,18}", answer.headers.get("Content-Length", ""))
            return 0, int(length[0]) if length else None
        span = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or not span:
            raise UnavailableError(f"HTTP {answer.status}, expected 200")
        if int(span[1]) != offset or "Content-Encoding" in answer.headers:
            self.refuse(f"other bytes than asked for, expected those from {offset:,} on", joined=True)
        if known and self.validator and known != self.validator:
            self.refuse("the file changed between two parts", joined=True)
        return offset, None if span[2] == "*" else int(span[2])

    def next_chunk(self, reader: Any) -> bytes:
        """Return the next bytes of an answer, none at its end."""
        with self.asking():
            # Not read, which would wait for a whole chunk and lose it where the connection is cut.
            return bytes(reader.read1(CHUNK_BYTES))

    def refuse(self, fault: str, *, joined: bool) -> NoReturn:
        """Discard the part. If it is `joined` from two answers, or may have been cut, ask for all of it once more."""
        self.part.truncate(0)
        raise PassingError(fault) if joined else UnavailableError(fault)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Convert every exception of a request into one of the two above, with a short reason."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {said(error.reason)}"
            if error.code == 416:  # it has no bytes from there on, so it has another file
                self.refuse(reason, joined=True)
            if error.code in PASSING:
                raise PassingError(reason, pause=_asked_pause(error.headers)) from None
            raise UnavailableError(reason) from None
        except (OSError, http.client.HTTPException, ValueError, EOFError, zlib.error) as error:
            cause = getattr(error, "reason", error)
            reason = said(getattr(cause, "strerror", None) or cause)
            if isinstance(cause, http.client.InvalidURL):  # it quotes the address, which may hold a password
                reason = "not a valid address"
            if isinstance(cause, TimeoutError):
                raise PassingError(f"no answer for {self.limits.silence:g} s") from None
            unknown = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
            if unknown or self.address.startswith("file:") or isinstance(cause, _LASTING):
                raise UnavailableError(reason) from None
            raise PassingError(reason) from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirects, and none from https to anything else."""

    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for the address that a server names."""
        parts = urllib.parse.urlsplit(newurl)
        if parts.scheme not in ("https", req.type) or req.type == "file" or "@" in parts.netloc:
            fp.close()
            raise UnavailableError(f"redirected from {req.type} to {said(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Paced(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections of which every byte counts: too few in a time, or too many in all, end them."""

    def __init__(self, limits: Limits, most: int) -> None:
        super().__init__()
        self.limits, self.most = limits, most

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an address that begins with http."""
        return self.do_open(partial(self.connection, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an address that begins with https."""
        return self.do_open(partial(self.connection, http.client.HTTPSConnection), req)

    def connection(self, kind: type[http.client.HTTPConnection], host: str, **named: Any) -> http.client.HTTPConnection:
        """Make a connection whose answers are read through _PacedBytes."""
        made = kind(host, **named)
        made.response_class = self.answer  # type: ignore[assignment]
        return made

    def answer(self, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
        """Make an answer before its first byte is read."""
        made = http.client.HTTPResponse(*arguments, **named)
        made.fp = io.BufferedReader(_PacedBytes(made.fp.detach(), self.limits, self.most))
        return made


class _PacedBytes(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, limits: Limits, most: int) -> None:
        self.raw, self.limits, self.most = raw, limits, most
        self.total = self.received = 0
        self.since = limits.clock()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self.raw.readinto(buffer) or 0
        self.total += count
        self.received += count
        if self.total > self.most:
            raise UnavailableError(f"more than {self.most:,} bytes, headers included")
        if count and (seconds := self.limits.clock() - self.since) >= self.limits.window:
            if self.received < self.limits.lowest_rate * seconds:
                raise PassingError(
                    f"{self.received:,} bytes in {seconds:,.0f} s, expected {self.limits.lowest_rate:,.0f} a second"
                )
            self.since, self.received = self.limits.clock(), 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def _validator(headers: Message) -> str | None:
    """Return what names the content of a file at its address: a strong ETag, else its date."""
    tag: str = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _asked_pause(headers: Message) -> float:
    """Return the seconds to wait that a server asks for, as a number or as a date by its own clock; 0 without any."""
    asked = headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", asked):
        return float(asked)
    try:
        return (parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (TypeError, ValueError):
        return 0.0
