"""Files are complete or do not exist."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from firstorder.files import parse_json, replacing, shortened


def test_the_written_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_created(tmp_path: Path) -> None:
    with replacing(tmp_path / "a/b/c.txt") as part:
        part.write_text("here")
    assert (tmp_path / "a/b/c.txt").read_text() == "here"


def test_the_scratch_file_is_hidden_beside_it_and_keeps_the_suffix(tmp_path: Path) -> None:
    """Beside it, because replacing is atomic only on one disk. NumPy and Matplotlib need the suffix."""
    with replacing(tmp_path / "figure.png") as part:
        assert part.parent == tmp_path
        assert part.name.startswith(".")
        assert part.suffix == ".png"


def test_two_writers_of_one_file_have_scratch_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_other_users_can_read_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "table.csv") as part:
        part.write_text("x")
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_body_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_removes_its_scratch_file_still_raises_its_own_error(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "table.csv") as part:
            part.unlink()
            raise ValueError("the real reason")

    with pytest.raises(ValueError, match="the real reason"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(OSError, match="table"), replacing(tmp_path / "table.csv") as part:
        part.write_text("x")
    assert list(tmp_path.iterdir()) == [tmp_path / "table.csv"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": ' * 100_000, "1" * 10_000, b"\xff\xfe"])
def test_what_is_no_json_is_a_value_error_of_one_line(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_the_scratch_file_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    end = "import os; os.kill(os.getpid(), 9)"
    script = (
        f"from pathlib import Path; from firstorder.files import replacing\nwith replacing(Path({str(path)!r})): {end}"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with replacing(path) as living:
        assert left.exists()  # its process may be about to lock it
        for scratch in (left, living):
            os.utime(scratch, (0, 0))
        with replacing(path) as part:
            part.write_text("new")
        assert set(tmp_path.iterdir()) == {path, living}


def test_a_path_is_told_without_dots_unless_a_link_makes_them_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "elsewhere/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/inner")
    assert shortened(tmp_path / "a/b/../../data") == tmp_path / "data"
    assert shortened(tmp_path / "link/../data") == tmp_path / "link/../data"
