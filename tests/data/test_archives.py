"""Archives: which members are given, and what is refused."""

from __future__ import annotations

import io
import os
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from firstorder.data import archives
from firstorder.data.archives import members
from firstorder.errors import UserError


def zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


WHOLE = zipped({"top/b.png": b"two" * 50, "top/a.png": b"one" * 50, "top/notes.txt": b"text"})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_only_requested_members_are_given_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(WHOLE)
    assert list(members(path, ".png")) == [("top/a.png", b"one" * 50), ("top/b.png", b"two" * 50)]
    assert [name for name, _ in members(path)] == ["top/a.png", "top/b.png", "top/notes.txt"]


def test_folders_are_not_given_as_members(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(zipped({"top/": b"", "top/a.png": b"one"}))
    assert [name for name, _ in members(path)] == ["top/a.png"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up.png", "top/../../up.png", "top\\..\\..\\up.png", "\\up.png", "C:up.png", ".."]
)
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
