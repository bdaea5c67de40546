"""In the place of every file that is read: a FIFO, a device, a folder, a file without end, or one of somebody else.

Each reader must return at once, without reading what has no end. A reader that must read the file refuses it in one
line that begins with its path; one that may do without passes over it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firstorder.data import archives, mini_imagenet_lists, mini_imagenet_sources, packs, safe_pickle
from firstorder.engines.native import compiled
from firstorder.errors import UserError
from firstorder.records import cells, checkpoints, headers
from firstorder.records.counts import CountsFile, Whole
from firstorder.records.states import StateFile
from firstorder.records.study_files import StudyFile
from firstorder.report.benchmark import performance
from firstorder.report.claims import paper
from firstorder.report.read import csv_frames, published
from firstorder.report.text import captions
from firstorder.settings import checks
from firstorder.upkeep import dvc, estimates, locks, verify_curves, verify_files
from tests.records.test_checkpoints import linear_network


def _opened(path: Path) -> None:
    with mini_imagenet_sources.opened(path, {"n01532829": "train"}):
        pass


# Reader -> the name of its file, and the function that reads it.
NEEDED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "settings": ("params.yaml", checks.load),
    "claims": ("claims.yaml", lambda path: paper.read(path, None)),  # type: ignore[arg-type]
    "published": ("published.csv", published.read),
    "record": ("seed-0.json", cells.read_record),
    "run file": ("seed-0.run.json", lambda path: cells.read_run(path.with_name("seed-0.csv"))),
    "csv": ("seed-0.csv", lambda path: csv_frames.read(path, ("a",))),
    "caption": ("a.rst", lambda path: captions.read(path.parent, path.parent, "a")),
    "page": ("README.md", lambda path: performance.update(path, path.parent)),
    "benchmark": ("x.json", performance.read),
    "benchmark of plan": ("results/bench/x.json", lambda path: estimates.read(path.parents[2], "cpu", "x")),
    "checkpoint": ("seed-0.safetensors", lambda path: checkpoints.read(path, linear_network())),
    "state": ("seed-0.safetensors", lambda path: StateFile(path, ("x",)).load(None)),  # type: ignore[arg-type]
    "counts": ("counts.json", lambda path: CountsFile(path, "x", Whole(tasks=1, queries=1, lanes=1)).load()),
    "part of a study": ("study.safetensors", lambda path: StudyFile(path, "x").load()),
    "pack": ("omniglot.npz", packs.read_pack),
    "archive": ("images.zip", lambda path: list(archives.members(path))),
    "source": ("images.tar", _opened),
    "list": ("train.csv", mini_imagenet_lists.read_names),
    "pickle": ("mini-imagenet-cache-train.pkl", safe_pickle.read),
    ".dvc file": ("a.dvc", dvc.read_dvc_file),
    ".dvc/config": (".dvc/config", lambda path: dvc.remote(path.parents[1])),
    "digest": ("a", lambda path: dvc.hash_of(path, "md5")),
}
# These return something else than for a file: nothing, False, or what is wrong.
DISPENSABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "header": ("seed-0.safetensors", headers.model_header),
    "pack's digest": ("omniglot.npz", headers.pack_digest),
    "is checkpoint": ("seed-0.safetensors", verify_files.is_checkpoint),
    "curve's content": ("seed-0.csv", lambda path: not verify_curves.wrong_content(path, path.name, {}, None)),
    "lock": (".work/locks/folder.lock", lambda path: locks.holders(path.parents[2])),
    "library": ("native.so", compiled._is_whole),
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 36)


def _loop(path: Path) -> None:
    path.symlink_to(path)


TRAPS = {"FIFO": _fifo, "device behind a link": _device, "folder": Path.mkdir, "link to itself": _loop}
FOLDERS_TOO = ("source", "list")  # read folders


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """End a reader that waits for a writer or reads without end."""

    def end(*_: Any) -> None:
        raise AssertionError("it does not return")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(30)
    yield
    signal.alarm(0)


def placed(root: Path, name: str, trap: Callable[[Path], object]) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    trap(path)
    return path


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("reader", NEEDED)
def test_a_trap_in_the_place_of_a_file_is_refused(reader: str, trap: str, tmp_path: Path) -> None:
    name, read = NEEDED[reader]
    path = placed(tmp_path, name, TRAPS[trap])
    if trap == "folder" and reader in FOLDERS_TOO:
        with pytest.raises(UserError, match=r"no file names|no images"):
            read(path)
    else:
        refusal(read, path)
    assert os.path.lexists(path)  # neither renamed nor removed


@pytest.mark.parametrize("reader", NEEDED)
def test_a_file_without_end_is_refused(reader: str, tmp_path: Path) -> None:
    name, read = NEEDED[reader]
    if reader != "digest":  # which may be of any file
        assert refusal(read, placed(tmp_path, name, _endless))


@pytest.mark.parametrize("trap", [*TRAPS.values(), _endless])
@pytest.mark.parametrize("reader", DISPENSABLE)
def test_a_trap_in_the_place_of_a_file_that_may_lack_is_passed_over(
    reader: str, trap: Callable[[Path], object], tmp_path: Path
) -> None:
    name, read = DISPENSABLE[reader]
    assert not read(placed(tmp_path, name, trap))


@pytest.mark.parametrize("reader", [*NEEDED])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who may read everything; so the system's answer is made up."""
    name, read = NEEDED[reader]
    path = placed(tmp_path, name, Path.touch)

    def open_nothing(opened: Any, *_: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(opened))

    monkeypatch.setattr(os, "open", open_nothing)
    message = refusal(read, path)
    assert "Permission denied" in message
    assert "give yourself the right to read it" in message
    for wrong in ("delete", "restore", "damaged", "train again", "download"):
        assert wrong not in message
    assert path.exists()


@pytest.mark.parametrize("reader", [*NEEDED, *DISPENSABLE])
def test_too_little_memory_is_not_called_a_damaged_file(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, read = {**NEEDED, **DISPENSABLE}[reader]
    path = placed(tmp_path, name, Path.touch)

    def open_nothing(*_: Any) -> int:
        raise MemoryError

    monkeypatch.setattr(os, "open", open_nothing)
    with pytest.raises(MemoryError):
        read(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("n0153282900000005.jpg\n")
    (tmp_path / "train.csv").symlink_to("other.csv")
    assert mini_imagenet_lists.read_names(tmp_path / "train.csv") == {"n01532829": ["n0153282900000005.jpg"]}


def test_every_reader_is_stopped_by_the_alarm_of_these_tests(tmp_path: Path) -> None:
    """The tests above prove nothing if a reader that hangs is not noticed."""
    signal.alarm(1)
    placed(tmp_path, "fifo", _fifo)
    with pytest.raises(AssertionError, match="does not return"), contextlib.closing((tmp_path / "fifo").open()):
        pass
