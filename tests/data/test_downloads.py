"""Downloads: which source gives the archive, what is refused, and that a cut one goes on to the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firstorder.__main__ import main
from firstorder.data import downloads, omniglot, transfers
from firstorder.data.archives import Archive
from firstorder.data.transfers import Limits
from firstorder.progress import Bar
from tests.data.test_archives import message_of, names_in, zipped
from tests.data.web_server import Answer, Handler, Server, endless, fixed, ranged, raw, redirect, send, serving, whole

NOISE = random.Random(0).randbytes(300_000)
WHOLE = zipped({"top/b.png": NOISE, "top/a.png": b"one" * 50})
REZIPPED = zipped({"top/a.png": b"one" * 50, "top/b.png": NOISE})
OTHER = zipped({"top/b.png": NOISE[::-1], "top/a.png": b"one" * 50})
HALF = len(WHOLE) // 2
PART = ".images.zip.part"


def archive_of(*urls: str) -> Archive:
    return Archive("images.zip", urls, len(WHOLE), hashlib.md5(WHOLE, usedforsecurity=False).hexdigest())


@dataclass
class Place:
    """A server, a folder to download to, and a clock that stands still; `pauses` are those between tries."""

    server: Server
    folder: Path
    pauses: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        return Limits(sleep=self.pauses.append, clock=lambda: 0.0)

    def fetch(self, *urls: str, mirror: str | None = None, **named: Any) -> Path:
        named = {"limits": self.limits, "tell": self.told.append} | named
        return downloads.fetch(archive_of(*urls), self.folder, mirror, **named)

    def refused(self, *urls: str, **named: Any) -> str:
        message = message_of(lambda: self.fetch(*urls, **named))
        assert message.isprintable()
        return message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield Place(server, tmp_path / "raw" / "omniglot")


class Watching:
    """A track whose bar calls `action` as bytes arrive; `opened` are its bars: total and done."""

    def __init__(self, action: Callable[[], object] = lambda: None) -> None:
        self.action, self.opened, self.steps = action, list[tuple[int, int]](), list[int]()

    @contextmanager
    def __call__(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        assert (what, unit) == ("images.zip", "bytes")
        self.opened.append((total, done))
        yield self

    def advance(self, units: int = 1, status: str = "") -> None:
        self.steps.append(units)
        self.action()


def assert_whole(place: Place, content: bytes = WHOLE) -> None:
    assert (place.folder / "images.zip").read_bytes() == content
    assert names_in(place.folder) == ["images.zip"]


def test_official_archive_is_downloaded_and_verified(place: Place) -> None:
    path = place.fetch(place.server.play("/images.zip", whole(WHOLE)))
    assert path == place.folder / "images.zip"
    assert path.stat().st_mode & 0o777 == 0o644
    assert_whole(place)
    assert (place.pauses, place.told) == ([], [])


def test_complete_archive_is_not_fetched_again(place: Place) -> None:
    url = place.server.play("/images.zip", whole(WHOLE))
    place.fetch(url)
    place.fetch(url)
    place.fetch(url, mirror=str(place.folder / "no mirror is needed any more"))
    assert place.server.paths == ["/images.zip"]


def test_damaged_archive_is_fetched_again(place: Place) -> None:
    place.folder.mkdir(parents=True)
    (place.folder / "images.zip").write_bytes(WHOLE[:-30])
    place.fetch(place.server.play("/images.zip", whole(WHOLE)))
    assert_whole(place)


def test_bytes_are_shown_as_they_arrive_and_go_on_where_they_were_cut(place: Place) -> None:
    track = Watching()
    place.fetch(place.server.play("/images.zip", ranged(WHOLE, cut=HALF), ranged(WHOLE)), track=track)
    assert track.opened == [(len(WHOLE), 0), (len(WHOLE), HALF)]
    assert sum(track.steps) == len(WHOLE)
    assert len(track.steps) > 2


# What a source may do, what the message says about it, and the number of requests it is worth.
TOO_MUCH = f"more than the {len(WHOLE):,} bytes expected"
TOO_MUCH_IN_ALL = f"more than {len(WHOLE) + transfers.HEADER_BYTES:,} bytes, headers included"
PAGE = b"<!DOCTYPE html><title>Log in</title>"
SHIFTED = f"bytes 5-{len(WHOLE) - 1}/{len(WHOLE)}"
BAD_SOURCES: dict[str, tuple[Answer, str, int]] = {
    "absent": (fixed(404), "HTTP 404 Not Found", 1),
    "a page": (whole(PAGE), "no zip, but 36 bytes that begin with b'<!DOCTYPE html><'", 1),
    "empty": (whole(b""), "empty, expected a zip", 1),
    "no content": (fixed(204), "HTTP 204, expected 200", 1),
    "one byte short": (whole(WHOLE[:-1]), f"{len(WHOLE) - 1:,} bytes, expected {len(WHOLE):,}", 1),
    "one byte long": (whole(WHOLE + b"x"), TOO_MUCH, 1),
    "announces too little": (whole(WHOLE, length=HALF), f"{HALF:,} bytes, expected {len(WHOLE):,}", 1),
    "announces too much": (whole(WHOLE, length=len(WHOLE) + 1), "", 1),  # all bytes came, and they are right
    "other bytes": (whole(OTHER), "MD5 ", 1),
    "a page of no length": (whole(PAGE, length=-1), "no zip, but 36 bytes that begin with b'<!DOCTYPE html><'", 4),
    "endless": (endless(WHOLE), TOO_MUCH, 1),
    "endless zeros": (endless(bytes(99_999)), TOO_MUCH, 1),
    "endless, packed": (whole(gzip.compress(bytes(9 << 20)), Content_Encoding="gzip"), TOO_MUCH, 1),
    "no gzip": (whole(WHOLE, Content_Encoding="gzip"), "Not a gzipped file (b'PK')", 1),
    "unknown packing": (whole(WHOLE, Content_Encoding="br"), "Content-Encoding br, expected none", 1),
    "a redirect to itself": (redirect("/bad"), "HTTP 302 The HTTP server returned a redirect error", 5),
    "a redirect to a file": (redirect("file:///etc/passwd"), "not allowed", 1),
    "a redirect to ftp": (redirect("ftp://127.0.0.1/x"), "redirected from http to ftp://127.0.0.1/x, which", 1),
    "a redirect without end": (endless(bytes(9999), b"HTTP/1.0 302 Found\r\nLocation: /a\r\n\r\n"), TOO_MUCH_IN_ALL, 1),
    "headers without end": (endless(b"HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n" * 99, b""), TOO_MUCH_IN_ALL, 1),
    "steers the terminal": (raw(b"HTTP/1.0 410 \x1b[2J\x9b gone\r\n\r\n"), "HTTP 410 ?[2J? gone", 1),
    "no HTTP": (raw(b"220 ftp ready\r\n"), "220 ftp ready; tried 4 times", 4),
    "hangs up": (raw(b""), "Remote end closed connection without response; tried 4 times", 4),
    "cut": (whole(WHOLE[:HALF], length=len(WHOLE)), f"cut short: {HALF:,} of {len(WHOLE):,} bytes; tried 4 times", 4),
    "busy": (fixed(503), "HTTP 503 Service Unavailable; tried 4 times", 4),
    "busy for a day": (fixed(503, Retry_After="86400"), "Unavailable, to be asked again in 86,400 s", 1),
    "another part": (
        fixed(206, WHOLE[5:], Content_Range=SHIFTED),
        "other bytes than asked for, expected those from 0",
        4,
    ),
    "a part of nothing": (fixed(206, WHOLE, Content_Range="bytes a-b/c"), "HTTP 206, expected 200", 1),
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_bad_source_is_refused_with_its_reason_and_the_next_one_is_taken(name: str, place: Place) -> None:
    answer, reason, requests = BAD_SOURCES[name]
    bad = place.server.play("/bad", answer)
    good = place.server.play("/good", whole(WHOLE))
    place.fetch(bad, good)
    assert_whole(place)
    assert place.server.paths == ["/bad"] * requests + ["/good"] * bool(reason)
    for line in place.told:
        assert line.startswith(f"images.zip: tried {bad} (")
        assert f"{reason}" in line
        assert line.endswith(f"); trying {good}")
        assert line.isprintable()
    assert len(place.told) == bool(reason)
    if requests == 4:
        assert place.pauses == [1, 2, 4]


@pytest.mark.parametrize("name", [name for name, (_, reason, _) in BAD_SOURCES.items() if reason])
def test_if_every_source_is_bad_nothing_gets_the_archives_name(name: str, place: Place) -> None:
    answer, reason, _ = BAD_SOURCES[name]
    bad = place.server.play("/bad", answer)
    message = place.refused(bad)
    assert message.startswith(f"images.zip could not be fetched, tried {bad} (")
    assert reason in message
    assert "try again later, set DATA_MIRROR to a folder or an address that holds omniglot/images.zip" in message
    assert message.endswith(f"or put the file at {place.folder / 'images.zip'} by hand")
    # Half a zip is kept; a page is not.
    assert names_in(place.folder) == ([PART] if name == "cut" else [])


@pytest.mark.parametrize("known", [{}, {"etag": '"a"'}, {"etag": 'W/"a"'}, {"date": "Wed, 13 Feb 2019 15:11:00 GMT"}])
def test_a_cut_download_goes_on_to_the_same_bytes(known: dict[str, str], place: Place) -> None:
    """It asks for the rest only, if the file is still the one with this strong ETag or date."""
    place.fetch(place.server.play("/images.zip", ranged(WHOLE, cut=HALF, **known), ranged(WHOLE, **known)))
    assert_whole(place)
    condition = None if known.get("etag", "").startswith("W/") else next(iter(known.values()), None)
    assert place.server.asked == [("/images.zip", None, None), ("/images.zip", f"bytes={HALF}-", condition)]
    assert place.pauses == [1]


def test_a_connection_that_is_cut_often_gets_there_as_long_as_it_brings_something(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "CHUNK_BYTES", 1000)
    place.fetch(place.server.play("/images.zip", ranged(WHOLE, cut=10_000)))
    assert_whole(place)
    assert len(place.server.asked) == -(-len(WHOLE) // 10_000)
    assert set(place.pauses) == {1}


def test_a_connection_that_is_cut_often_and_brings_little_is_given_up(place: Place) -> None:
    assert "tried 4 times" in place.refused(place.server.play("/images.zip", ranged(WHOLE, cut=100)))
    assert place.pauses == [1, 2, 4]
    assert (place.folder / PART).read_bytes() == WHOLE[:400]


def test_a_source_that_ignores_ranges_starts_again(place: Place) -> None:
    place.fetch(place.server.play("/images.zip", whole(WHOLE[:HALF], length=len(WHOLE)), whole(WHOLE)))
    assert_whole(place)
    assert place.server.ranges == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "changed",
    [
        ranged(WHOLE, etag='"new"'),
        lambda h: send(h, 206, WHOLE[HALF:], ETag='"new"', Content_Range=f"bytes {HALF}-{len(WHOLE) - 1}/{len(WHOLE)}"),
        lambda h: send(h, 206, WHOLE[HALF:], Content_Range=f"bytes {HALF}-{len(WHOLE) - 1}/{len(WHOLE)}"),
    ],
)
def test_a_file_that_changed_between_two_parts_is_received_whole(changed: Answer, place: Place) -> None:
    """A server may honour If-Range, or know only ETag, or tell nothing of the change."""
    url = place.server.play("/images.zip", ranged(OTHER, cut=HALF, etag='"old"'), changed, ranged(WHOLE, etag='"new"'))
    place.fetch(url)
    assert_whole(place)


def test_an_answer_without_a_length_that_was_cut_is_asked_for_again(place: Place) -> None:
    place.fetch(place.server.play("/images.zip", whole(WHOLE[:HALF], length=-1), whole(WHOLE, length=-1)))
    assert_whole(place)
    assert place.pauses == [1]


@pytest.mark.parametrize("answer", ["shifted", "packed"])
def test_a_range_that_is_not_the_one_asked_for_is_discarded(answer: str, place: Place) -> None:
    start, more = (HALF + 1, {}) if answer == "shifted" else (HALF, {"Content_Encoding": "gzip"})
    span = f"bytes {start}-{len(WHOLE) - 1}/{len(WHOLE)}"
    wrong = fixed(206, WHOLE[start:], Content_Range=span, **more)
    place.fetch(place.server.play("/images.zip", ranged(WHOLE, cut=HALF), wrong, ranged(WHOLE)))
    assert_whole(place)
    assert place.server.ranges == [None, f"bytes={HALF}-", None]


def test_a_shorter_file_than_the_part_is_received_whole(place: Place) -> None:
    """The range lies behind its end, which is an error (416)."""
    place.folder.mkdir(parents=True)
    (place.folder / PART).write_bytes(WHOLE + WHOLE)
    place.fetch(place.server.play("/images.zip", ranged(WHOLE)))
    assert_whole(place)


def test_the_next_source_goes_on_with_the_part_of_the_first(place: Place) -> None:
    first = place.server.play("/first", ranged(WHOLE, cut=HALF), fixed(404))
    place.fetch(first, place.server.play("/second", ranged(WHOLE, etag='"b"')))
    assert_whole(place)
    assert place.server.asked[-1] == ("/second", f"bytes={HALF}-", None)


def test_a_part_of_another_file_is_not_mixed_into_the_next_sources(place: Place) -> None:
    first = place.server.play("/first", ranged(OTHER, cut=HALF), fixed(404))
    place.fetch(first, place.server.play("/second", ranged(WHOLE)))
    assert_whole(place)
    assert place.server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-", None]


def test_a_packed_answer_is_unpacked_and_a_cut_one_goes_on(place: Place) -> None:
    packed = gzip.compress(WHOLE)
    url = place.server.play(
        "/images.zip", whole(packed[:HALF], length=len(packed), Content_Encoding="gzip"), ranged(WHOLE)
    )
    place.fetch(url)
    assert_whole(place)
    place.server.play("/images.zip", whole(packed, Content_Encoding="gzip"))
    (place.folder / "images.zip").unlink()
    place.fetch(url)
    assert_whole(place)


@pytest.mark.parametrize(
    ("headers", "pauses"),
    [
        ({"Retry_After": "7"}, [7]),
        ({"Retry_After": "0"}, [1]),
        ({"Retry_After": "Wed, 01 Jan 2070 00:00:30 GMT", "Date": "Wed, 01 Jan 2070 00:00:00 GMT"}, [30]),
        ({"Retry_After": "soon"}, [1]),
        ({"Retry_After": "9" * 5000}, [1]),
        ({"Retry_After": "Wed, 01 Jan 2070 00:00:30 GMT", "Date": "never"}, [1]),
    ],
)
def test_a_busy_server_is_asked_again_when_it_says(headers: dict[str, str], pauses: list[float], place: Place) -> None:
    def busy(handler: Handler) -> None:
        handler.send_response_only(503)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    place.fetch(place.server.play("/images.zip", busy, whole(WHOLE)))
    assert_whole(place)
    assert place.pauses == pauses


def test_redirects_are_followed(place: Place) -> None:
    url = place.server.play("/a", redirect("/b", 301))
    place.server.play("/b", redirect(f"{place.server.address}/c", 308))
    place.server.play("/c", ranged(WHOLE, cut=HALF), ranged(WHOLE))
    place.fetch(url)
    assert_whole(place)
    assert place.server.asked[-1] == ("/c", f"bytes={HALF}-", None)


def test_more_than_a_few_redirects_are_refused(place: Place) -> None:
    for number in range(9):
        place.server.play(f"/{number}", redirect(f"/{number + 1}"))
    assert "redirect error" in place.refused(f"{place.server.address}/0")
    assert len(place.server.asked) == 6


def test_https_never_falls_to_http() -> None:
    """Asked of the handler itself, as a server with a certificate would need one made for the test."""
    handler, request = transfers._Redirects(), transfers.urllib.request.Request("https://example.org/a")
    for address in ("http://example.org/a", "ftp://example.org/a", "HTTP://example.org/a"):
        with pytest.raises(transfers.UnavailableError, match="redirected from https to"):
            handler.redirect_request(request, socket.socket(), 302, "Found", {}, address)
    followed = handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/b")
    assert followed.full_url == "https://example.org/b"


def test_a_certificate_that_does_not_fit_is_no_reason_to_ask_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(self: object) -> None:
        raise ssl.SSLCertVerificationError(1, "certificate verify failed")

    monkeypatch.setattr(transfers.http.client.HTTPSConnection, "connect", connect)
    assert "certificate verify failed" in place.refused("https://127.0.0.1/images.zip")
    assert place.pauses == []


def test_a_server_that_says_nothing_is_given_up(place: Place) -> None:
    url = place.server.play("/images.zip", lambda handler: place.server.over.wait() and None)
    message = place.refused(url, limits=replace(place.limits, silence=0.05, tries=2))
    assert f"{url} (no answer for 0.05 s; tried 2 times)" in message
    assert names_in(place.folder) == []


@pytest.mark.parametrize("slow", ["headers", "content"])
def test_a_server_that_sends_a_few_bytes_now_and_then_is_given_up(slow: str, place: Place) -> None:
    """The clock goes on by half a window for each byte; no byte is late enough to be missed by the other limit."""
    clock = itertools.count(0, 30)
    track = Watching()
    still = slow == "content"
    limits = Limits(clock=lambda: 0.0 if still and not track.opened else next(clock), tries=1, lowest_rate=1e9)

    def drip(handler: Handler) -> None:
        start = b"HTTP/1.0 200 OK\r\nX-Long: "
        handler.wfile.write(start if slow == "headers" else b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE[:9])
        while True:
            handler.wfile.write(b"x")

    message = place.refused(place.server.play("/images.zip", drip), limits=limits, track=track)
    assert "expected 1,000,000,000 a second; tried 1 times" in message
    assert bool(track.opened) == still


def test_a_slow_server_that_keeps_the_lowest_rate_is_waited_for(place: Place) -> None:
    """Each read takes a minute here and brings up to 8 KiB: 136 bytes a second."""
    clock = itertools.count(0, 60)
    limits = replace(place.limits, clock=lambda: next(clock), lowest_rate=0.01)
    place.fetch(place.server.play("/images.zip", whole(WHOLE)), limits=limits)
    assert_whole(place)


def test_without_network_all_addresses_and_the_ways_out_are_named(place: Place) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        urls = (f"http://127.0.0.1:{port}/one.zip", f"http://127.0.0.1:{port}/two.zip")
        message = place.refused(*urls)
    assert urls[0] in message
    assert urls[1] in message
    assert "refused" in message
    assert "DATA_MIRROR" in message
    assert "unset" not in message
    assert names_in(place.folder) == []


@pytest.mark.parametrize(("code", "pauses"), [(socket.EAI_NONAME, []), (socket.EAI_AGAIN, [1, 2, 4])])
def test_a_machine_that_has_no_address_is_not_asked_again(
    code: int, pauses: list[float], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that fails for now is another matter."""

    def unknown(*arguments: object) -> None:
        raise socket.gaierror(code, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "http://mirror.invalid/images.zip (Name or service" in place.refused("http://mirror.invalid/images.zip")
    assert place.pauses == pauses


def test_an_address_that_is_none_is_reported(place: Place) -> None:
    for address in ("http://", "http://127.0.0.1:port/a", "http://[::1/a", "http://127.0.0.1/a b\nc", "sftp://h/a"):
        assert "could not be fetched, tried " in place.refused(address.replace("\n", "%0A"))
    assert place.pauses == []


def test_interrupted_download_keeps_the_old_file_and_goes_on_next_time(place: Place) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    url = place.server.play("/images.zip", ranged(WHOLE))
    place.folder.mkdir(parents=True)
    (place.folder / "images.zip").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        place.fetch(url, track=Watching(interrupt))
    assert names_in(place.folder) == [PART, "images.zip"]
    assert (place.folder / "images.zip").read_bytes() == b"old"
    received = (place.folder / PART).stat().st_size
    assert 0 < received < len(WHOLE)
    place.fetch(url)
    assert_whole(place)
    assert place.server.ranges == [None, f"bytes={received}-"]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_download_leaves_no_archive_and_goes_on_next_time(kind: signal.Signals, place: Place) -> None:
    """The server sends half, and the process is killed while it waits for the rest."""

    def half(handler: Handler) -> None:
        send(handler, 200, WHOLE[:HALF], length=len(WHOLE))
        handler.wfile.flush()
        place.server.over.wait()

    url = place.server.play("/images.zip", half, ranged(WHOLE))
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a background job ignores it
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); from firstorder import __main__; "
        "from firstorder.data import archives, omniglot; "
        "omniglot.ARCHIVES = (archives.Archive('images.zip', (sys.argv[1],), int(sys.argv[2]), sys.argv[3]),); "
        "sys.argv[1:] = ['download', '--folder', sys.argv[4]]; sys.exit(__main__.main())"
    )
    wanted = archive_of()
    arguments = [sys.executable, "-c", program, url, str(wanted.bytes), wanted.md5, str(place.folder)]
    environment = {name: value for name, value in os.environ.items() if name != "DATA_MIRROR"}
    part = place.folder / PART
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (part.exists() and part.stat().st_size == HALF):
            assert process.poll() is None
        process.send_signal(kind)
        _, errors = process.communicate()
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert names_in(place.folder) == [PART]
    again = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, f"{place.folder / 'images.zip'}\n"), again.stderr
    assert_whole(place)
    assert place.server.ranges == [None, f"bytes={HALF}-"]


def test_a_download_killed_between_the_last_byte_and_the_name_asks_for_nothing(place: Place) -> None:
    place.folder.mkdir(parents=True)
    (place.folder / PART).write_bytes(WHOLE)
    place.fetch(f"{place.server.address}/images.zip")
    assert_whole(place)
    assert place.server.asked == []


def test_two_downloads_at_once_make_one_request(place: Place) -> None:
    """The second waits for the first and finds the archive."""
    asked, waited = threading.Event(), threading.Event()

    def late(handler: Handler) -> None:
        asked.set()
        assert waited.wait(60)
        send(handler, 200, WHOLE)

    url = place.server.play("/images.zip", late)
    first = threading.Thread(target=lambda: place.fetch(url))
    first.start()
    assert asked.wait(60)
    told: list[str] = []
    place.fetch(url, tell=lambda line: (told.append(line), waited.set()))
    first.join(60)
    assert told == [f"{place.folder / 'images.zip'}: another process downloads it; waiting for that one to end"]
    assert_whole(place)
    assert place.server.paths == ["/images.zip"]


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_a_part_that_is_no_file_is_refused(kind: str, place: Place, tmp_path: Path) -> None:
    place.folder.mkdir(parents=True)
    if kind == "link":
        (tmp_path / "precious").write_bytes(b"precious")
        (place.folder / PART).symlink_to(tmp_path / "precious")
    elif kind == "FIFO":
        os.mkfifo(place.folder / PART)
    else:
        (place.folder / PART).mkdir()
    message = place.refused(place.server.play("/images.zip", whole(WHOLE)))
    assert message == f"{place.folder / PART}: expected a regular file, found a {kind}; delete it"
    if kind == "link":
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_full_disk_is_reported_before_any_request(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free=10))
    message = place.refused(f"{place.server.address}/images.zip")
    assert f"needs {len(WHOLE):,} bytes, the disk has 10 bytes free" in message
    assert place.server.asked == []
    assert names_in(place.folder) == []


def test_folder_that_cannot_be_created_is_reported(place: Place, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where a folder should be")
    message = place.refused("http://127.0.0.1:1/images.zip")
    assert "cannot be written" in message
    assert str(tmp_path / "raw") in message


@pytest.mark.parametrize("where", ["omniglot/images.zip", "images.zip"])
@pytest.mark.parametrize("form", ["folder", "file", "http"])
def test_a_mirror_goes_first(where: str, form: str, place: Place, tmp_path: Path) -> None:
    """An archive of other bytes is accepted from a mirror, because only the content matters there."""
    mirror = tmp_path / "a mirror"
    (mirror / where).parent.mkdir(parents=True)
    (mirror / where).write_bytes(REZIPPED)
    place.server.play(f"/mirror/{where}", whole(REZIPPED))
    value = {"folder": str(mirror), "file": mirror.as_uri() + "/", "http": f"{place.server.address}/mirror"}[form]
    place.fetch(place.server.play("/official.zip", whole(WHOLE)), mirror=value)
    assert_whole(place, REZIPPED)
    assert "/official.zip" not in place.server.paths
    assert place.told == []


def test_a_mirror_that_lacks_the_archive_is_named_and_the_official_address_taken(place: Place, tmp_path: Path) -> None:
    url = place.server.play("/images.zip", whole(WHOLE))
    place.fetch(url, mirror=str(tmp_path))
    assert_whole(place)
    places = ("omniglot/images.zip", "images.zip")
    missing = [f"{tmp_path.as_uri()}/{name} (No such file or directory)" for name in places]
    assert place.told == [f"images.zip: tried {', '.join(missing)}; trying {url}"]


def test_the_rest_of_a_cut_mirror_comes_from_the_official_address_as_a_whole(place: Place) -> None:
    place.server.play("/mirror/images.zip", ranged(REZIPPED, cut=HALF), fixed(404))
    place.fetch(place.server.play("/images.zip", ranged(WHOLE)), mirror=f"{place.server.address}/mirror")
    assert_whole(place)


def test_a_resumed_mirror_gives_its_own_bytes(place: Place) -> None:
    place.server.play("/mirror/images.zip", ranged(REZIPPED, cut=HALF), ranged(REZIPPED))
    place.fetch(mirror=f"{place.server.address}/mirror")
    assert_whole(place, REZIPPED)
    assert place.server.ranges == [None, None, f"bytes={HALF}-"]


def test_an_archive_with_other_bytes_is_refused_from_an_official_address(place: Place) -> None:
    assert len(REZIPPED) == len(WHOLE)
    message = place.refused(place.server.play("/images.zip", whole(REZIPPED)))
    for content in (WHOLE, REZIPPED):
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() in message
    assert names_in(place.folder) == []


def test_a_mirror_that_has_nothing_is_reported_with_the_official_addresses(place: Place, tmp_path: Path) -> None:
    message = place.refused(f"{place.server.address}/images.zip", mirror=str(tmp_path))
    for source in (f"{tmp_path.as_uri()}/omniglot", f"{tmp_path.as_uri()}", place.server.address):
        assert f"{source}/images.zip (" in message
    assert "unset" in message
    assert names_in(place.folder) == []


def test_mirror_folder_that_is_missing_is_reported(place: Place, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert f"DATA_MIRROR is {missing!r}: no such folder" in place.refused(mirror=missing)


def test_mirror_of_unknown_kind_is_reported(place: Place) -> None:
    assert "expected a folder or an address" in place.refused(mirror="gopher://mirror")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(WHOLE[:HALF]), "not a whole zip"),
        (lambda path: path.write_bytes(bytes(10 * len(WHOLE))), "more than the"),
        (lambda path: path.write_bytes(b""), "empty, expected a zip"),
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "is a FIFO, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    ],
)
def test_a_mirror_folder_with_anything_else_is_refused(
    make: Callable[[Path], object], reason: str, place: Place, tmp_path: Path
) -> None:
    make(tmp_path / "images.zip")
    assert f"{tmp_path.as_uri()}/images.zip ({reason}" in place.refused(mirror=str(tmp_path))
    assert names_in(place.folder) == []


def test_a_file_address_with_a_machine_is_refused(place: Place) -> None:
    assert "a file on another machine, expected file:///folder" in place.refused(mirror="file://data/omniglot")


def test_the_command_fetches_the_named_archive_or_both(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(archive_of(), name="other.zip")
    monkeypatch.setattr(omniglot, "ARCHIVES", (archive_of(), other))
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path))
    for name in ("images.zip", "other.zip"):
        (tmp_path / name).write_bytes(WHOLE)
    assert main(["download", "other.zip", "--folder", str(place.folder)]) == 0
    assert names_in(place.folder) == ["other.zip"]
    assert main(["download", "--folder", str(place.folder)]) == 0
    assert names_in(place.folder) == ["images.zip", "other.zip"]
    assert main(["download", "others.zip"]) == 2
    assert "unknown archive 'others.zip' (did you mean 'other.zip'?)" in capsys.readouterr().err


# --- Addresses with a password, and other odd ones ---


@pytest.mark.parametrize(
    "mirror",
    [
        *("http://ada:hunter2@127.0.0.1:1/", "HTTPS://ada:hunter2@127.0.0.1:1", "http://hunter2@127.0.0.1:1/x"),
        *("http://ada:hun/hunter2@127.0.0.1:1/", "http://ada:12/hunter2@127.0.0.1:1/", "ftp://ada:hunter2@host/x"),
        *("ada:hunter2@host:/mirror", "http:/ada:hunter2@host", " http://ada:hunter2@host", "file://a:hunter2@host/x"),
        *("http://ada:x@hunter2@127.0.0.1:1/", "http://127.0.0.1:1/?token=hunter2", "http://[ada:hunter2@::1"),
        *("http://ada:hunter2@127.0.0.1:1\n/", "http://ada:hun ter2hunter2@127.0.0.1:1/", "http://a\\@b:hunter2@c/"),
    ],
)
def test_a_password_in_the_mirrors_address_is_never_shown(mirror: str, place: Place) -> None:
    message = place.refused(mirror=mirror)
    assert "hunter2" not in message + "".join(place.told)
    assert "hun" not in message
    assert "DATA_MIRROR" in message


def test_a_password_in_a_redirect_is_not_shown_and_not_sent(place: Place) -> None:
    url = place.server.play("/a", redirect("http://ada:hunter2@127.0.0.1:1/b?key=hunter2"))
    message = place.refused(url)
    assert "redirected from http to http" not in message or "hunter2" not in message
    assert "which is not followed" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("proxy", ["http://ada:hun/hunter2@127.0.0.1:1", "http://ada:hunter2@127.0.0.1:port"])
def test_a_password_of_a_proxy_is_not_shown(proxy: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    assert "hunter2" not in place.refused("http://mirror.invalid/images.zip")


@pytest.mark.parametrize(
    "mirror", ["http://127.0.0.1:1/a\nfirstorder: done", "no such\nfolder\x1b[31m", "http://h/a#b"]
)
def test_a_mirror_that_steers_the_terminal_is_refused(mirror: str, place: Place) -> None:
    message = place.refused(mirror=mirror)
    assert message.startswith("DATA_MIRROR ")
    assert place.server.asked == []


def test_the_scheme_of_a_mirror_may_be_in_capitals(place: Place, tmp_path: Path) -> None:
    place.server.play("/m/omniglot/images.zip", whole(REZIPPED))
    place.fetch(mirror=f"{place.server.address}/m".replace("http:", "HTTP:"))
    assert_whole(place, REZIPPED)
    (tmp_path / "images.zip").write_bytes(WHOLE)
    (place.folder / "images.zip").unlink()
    place.fetch(mirror=tmp_path.as_uri().replace("file:", "File:"))
    assert_whole(place)


@pytest.mark.parametrize("mirror", ["~nobody-here/data", "loop/data", "x" * 5000])
def test_a_folder_that_cannot_be_is_no_such_folder(
    mirror: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert "no such folder" in place.refused(mirror=mirror)
