"""Archives: what is fetched, what is refused, and that no partial file remains."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import socket
import stat
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from firstorder.data import archives
from firstorder.data.archives import Archive, fetch, members
from firstorder.errors import UserError
from firstorder.progress import Bar


def zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


WHOLE = zipped({"top/b.png": b"two" * 50, "top/a.png": b"one" * 50, "top/notes.txt": b"text"})
REZIPPED = zipped({"top/a.png": b"one" * 50, "top/b.png": b"two" * 50, "top/notes.txt": b"text"})


def archive_of(*urls: str, content: bytes = WHOLE) -> Archive:
    return Archive("images.zip", urls, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())


class Server(NamedTuple):
    """A local web server: what it serves, which paths were requested, and its address."""

    files: dict[str, bytes]
    asked: list[str]
    address: str


def make_handler(files: dict[str, bytes], asked: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/slow":
                time.sleep(0.5)
            if self.path not in files:
                self.send_error(404)
                return
            content = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path == "/short" else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files: dict[str, bytes] = {}
    asked: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(files, asked)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield Server(files, asked, f"http://127.0.0.1:{running.server_port}")
        running.shutdown()
        thread.join(timeout=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "omniglot"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_official_archive_is_downloaded_and_verified(server: Server, folder: Path) -> None:
    server.files["/images.zip"] = WHOLE
    path = fetch(archive_of(f"{server.address}/images.zip"), folder)
    assert path == folder / "images.zip"
    assert path.read_bytes() == WHOLE
    assert names_in(folder) == ["images.zip"]


def test_complete_archive_is_not_fetched_again(server: Server, folder: Path) -> None:
    server.files["/images.zip"] = WHOLE
    archive = archive_of(f"{server.address}/images.zip")
    fetch(archive, folder)
    fetch(archive, folder)
    fetch(archive, folder, mirror=str(folder / "no mirror is needed any more"))
    assert server.asked == ["/images.zip"]


def test_damaged_archive_is_fetched_again(server: Server, folder: Path) -> None:
    server.files["/images.zip"] = WHOLE
    folder.mkdir(parents=True)
    (folder / "images.zip").write_bytes(WHOLE[:-30])
    fetch(archive_of(f"{server.address}/images.zip"), folder)
    assert (folder / "images.zip").read_bytes() == WHOLE


def test_second_address_is_tried_when_the_first_fails(server: Server, folder: Path) -> None:
    server.files["/second.zip"] = WHOLE
    fetch(archive_of(f"{server.address}/first.zip", f"{server.address}/second.zip"), folder)
    assert server.asked == ["/first.zip", "/second.zip"]
    assert (folder / "images.zip").read_bytes() == WHOLE


def test_bytes_are_shown_as_they_arrive(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "CHUNK_BYTES", 100)
    server.files["/images.zip"] = WHOLE
    opened: list[tuple[str, int, str]] = []
    steps: list[int] = []

    class Counting:
        def advance(self, units: int = 1, note: str = "") -> None:
            steps.append(units)

    @contextmanager
    def track(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        opened.append((what, total, unit))
        yield Counting()

    fetch(archive_of(f"{server.address}/images.zip"), folder, track=track)
    assert opened == [("images.zip", len(WHOLE), "bytes")]
    assert sum(steps) == len(WHOLE)
    assert len(steps) > 1


# What the official address serves, and what the message says about it.
BAD_ANSWERS = {
    "/absent": (None, "HTTP 404"),
    "/short": (WHOLE, f"cut short: {len(WHOLE) // 2} of {len(WHOLE)} bytes"),
    "/small": (WHOLE[:-1], f"{len(WHOLE) - 1} bytes, expected {len(WHOLE)}"),
    "/large": (WHOLE + b"x", f"more than the {len(WHOLE)} bytes expected"),
    "/other": (WHOLE[:-1] + b"x", "MD5 "),
    "/slow": (WHOLE, "no answer for 0.1 s"),
}


@pytest.mark.parametrize("place", BAD_ANSWERS)
def test_bad_download_is_refused_and_leaves_nothing(
    place: str, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "TIMEOUT_SECONDS", 0.1)
    content, reason = BAD_ANSWERS[place]
    if content is not None:
        server.files[place] = content
    message = message_of(lambda: fetch(archive_of(server.address + place), folder))
    assert f"{server.address}{place} (" in message
    assert reason in message
    assert names_in(folder) == []


def test_without_network_all_addresses_and_the_ways_out_are_named(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    urls = (f"http://127.0.0.1:{port}/one.zip", f"http://127.0.0.1:{port}/two.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        message = message_of(lambda: fetch(archive_of(*urls), folder))
    assert urls[0] in message
    assert urls[1] in message
    assert "refused" in message
    assert "DATA_MIRROR" in message
    assert "omniglot/images.zip" in message
    assert str(folder / "images.zip") in message
    assert names_in(folder) == []


def test_interrupted_download_keeps_the_old_file_and_no_scratch(server: Server, folder: Path) -> None:
    server.files["/images.zip"] = WHOLE
    folder.mkdir(parents=True)
    (folder / "images.zip").write_bytes(b"old")

    class Interrupting:
        def advance(self, units: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

    @contextmanager
    def track(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        yield Interrupting()

    with pytest.raises(KeyboardInterrupt):
        fetch(archive_of(f"{server.address}/images.zip"), folder, track=track)
    assert names_in(folder) == ["images.zip"]
    assert (folder / "images.zip").read_bytes() == b"old"


def test_full_disk_is_reported_before_any_request(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free=10))
    message = message_of(lambda: fetch(archive_of(f"{server.address}/images.zip"), folder))
    assert f"needs {len(WHOLE)} bytes, the disk has 10 bytes free" in message
    assert server.asked == []
    assert names_in(folder) == []


def test_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where a folder should be")
    message = message_of(lambda: fetch(archive_of("http://127.0.0.1:1/images.zip"), tmp_path / "raw" / "omniglot"))
    assert "cannot be written" in message
    assert str(tmp_path / "raw" / "omniglot" / "images.zip") in message


@pytest.mark.parametrize("place", ["omniglot/images.zip", "images.zip"])
@pytest.mark.parametrize("form", ["folder", "file", "http"])
def test_mirror_is_tried_instead_of_the_official_addresses(
    place: str, form: str, server: Server, folder: Path, tmp_path: Path
) -> None:
    """An archive of other bytes is accepted from a mirror, because only the content matters there."""
    mirror = tmp_path / "a mirror"
    (mirror / place).parent.mkdir(parents=True)
    (mirror / place).write_bytes(REZIPPED)
    server.files[f"/mirror/{place}"] = REZIPPED
    value = {"folder": str(mirror), "file": mirror.as_uri() + "/", "http": f"{server.address}/mirror"}[form]
    path = fetch(archive_of(f"{server.address}/official.zip"), folder, value)
    assert path.read_bytes() == REZIPPED
    assert names_in(folder) == ["images.zip"]
    assert "/official.zip" not in server.asked


def test_archive_with_other_bytes_is_refused_from_an_official_address(server: Server, folder: Path) -> None:
    assert len(REZIPPED) == len(WHOLE)
    server.files["/images.zip"] = REZIPPED
    message = message_of(lambda: fetch(archive_of(f"{server.address}/images.zip"), folder))
    assert hashlib.md5(WHOLE, usedforsecurity=False).hexdigest() in message
    assert hashlib.md5(REZIPPED, usedforsecurity=False).hexdigest() in message
    assert names_in(folder) == []


def test_mirror_that_lacks_the_archive_is_reported(folder: Path, tmp_path: Path) -> None:
    message = message_of(lambda: fetch(archive_of("http://127.0.0.1:1/images.zip"), folder, str(tmp_path)))
    assert f"{tmp_path.as_uri()}/omniglot/images.zip" in message
    assert f"{tmp_path.as_uri()}/images.zip" in message
    assert "unset" in message
    assert "127.0.0.1" not in message
    assert names_in(folder) == []


def test_mirror_folder_that_is_missing_is_reported(folder: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    message = message_of(lambda: fetch(archive_of(), folder, missing))
    assert f"DATA_MIRROR is {missing!r}: no such folder" in message


def test_mirror_of_unknown_kind_is_reported(folder: Path) -> None:
    assert "expected a folder or an address" in message_of(lambda: fetch(archive_of(), folder, "gopher://mirror"))


def test_truncated_archive_in_the_mirror_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(WHOLE[: len(WHOLE) // 2])
    message = message_of(lambda: fetch(archive_of(), folder, str(tmp_path)))
    assert "not a whole zip" in message
    assert names_in(folder) == []


def test_endless_mirror_is_cut_off(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(bytes(10 * len(WHOLE)))
    assert "more than the" in message_of(lambda: fetch(archive_of(), folder, str(tmp_path)))
    assert names_in(folder) == []


def test_only_requested_members_are_given_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(WHOLE)
    assert list(members(path, ".png")) == [("top/a.png", b"one" * 50), ("top/b.png", b"two" * 50)]
    assert [name for name, _ in members(path)] == ["top/a.png", "top/b.png", "top/notes.txt"]


def test_folders_are_not_given_as_members(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"top/": b"", "top/a.png": b"one"}))
    assert [name for name, _ in members(path)] == ["top/a.png"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "top/../../up.png", "top\\up.png", "C:up.png", ".."])
def test_member_that_would_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"top/a.png": b"one", name: b"two"}))
    message = message_of(lambda: next(members(path, ".png")))
    assert repr(name) in message
    assert str(path) in message
    assert names_in(tmp_path) == ["images.zip"]


def test_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    link = zipfile.ZipInfo("top/link.png")
    link.create_system = 3  # Unix
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'top/link.png': it is a link" in message_of(lambda: next(members(path)))


def test_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"top/a.png": b"one", "top/b.png": b"two"}).replace(b"top/b.png", b"top/a.png"))
    assert "its name occurs twice" in message_of(lambda: next(members(path)))


def test_member_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"top/a.png": b"one", "top/bomb.png": bytes(100_000)}))
    message = message_of(lambda: next(members(path, largest=99_999)))
    assert "'top/bomb.png': it unpacks to 100,000 bytes, at most 99,999" in message
    assert len(list(members(path, largest=100_000))) == 2


def test_missing_archive_is_reported(tmp_path: Path) -> None:
    message = message_of(lambda: next(members(tmp_path / "images.zip")))
    assert f"{tmp_path / 'images.zip'}: no such archive" in message


def test_every_truncation_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    for length in range(0, len(WHOLE), 7):
        path.write_bytes(WHOLE[:length])
        message = message_of(lambda: list(members(path)))
        assert f"{path}: expected a whole zip archive" in message
        assert f"firstorder download --folder {tmp_path}" in message


def test_flipped_bit_never_changes_what_is_read(tmp_path: Path) -> None:
    """A flip gives a UserError, changes nothing (in a time stamp), or hides members, which their number shows."""
    path = tmp_path / "images.zip"
    path.write_bytes(WHOLE)
    whole = set(members(path))
    messages = []
    for place in range(len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert set(members(path)) <= whole
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > len(WHOLE) // 4
    assert not any("\n" in message for message in messages)


def test_a_member_that_unpacks_to_more_than_it_announces_takes_no_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"a.png": bytes(200 << 20)}))
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\1\2") + 24
    content[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    message = message_of(lambda: list(members(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "expected a whole zip archive, found: Bad CRC-32" in message
    assert peak < 8 << 20


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_that_unpack_without_a_bound_are_refused(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w", kind) as archive:
        archive.writestr("a.png", b"x" * 999)
    assert "'a.png': it is neither stored nor deflated" in message_of(lambda: list(members(tmp_path / "images.zip")))


def test_many_members_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_TOTAL_BYTES", 299)
    (tmp_path / "images.zip").write_bytes(WHOLE)
    assert "all members together unpack to more than 299" in message_of(lambda: list(members(tmp_path / "images.zip")))


def test_a_fifo_in_place_of_an_archive_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.zip")
    assert "found: is a FIFO, not a file" in message_of(lambda: list(members(tmp_path / "images.zip")))
