"""Terminals without letters, full disks and odd file names end in one line, not in a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firstorder import cli
from firstorder.__main__ import main
from firstorder.files import replacing
from firstorder.records import row_files
from tests.conftest import TINY_PARAMS, write_params


def with_verb(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Make every verb call this function."""
    monkeypatch.setattr(cli, "_call", lambda parsed: function())


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "firstorder", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False)


ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("environment", ASCII, ids=str)
def test_a_title_is_shown_in_any_terminal(environment: dict[str, str], tiny_project: Path) -> None:
    write_params(tiny_project, TINY_PARAMS | {"title": "Größe ± 1 — 漢字"})
    for arguments in (["plan"], ["--help"], ["train", "no ± such"]):
        done = run(tiny_project, *arguments, **environment)
        assert b"Traceback" not in done.stderr
        assert done.returncode in (0, 2)
    assert b"+/- 1 -" in run(tiny_project, "plan", PYTHONIOENCODING="ascii").stdout


def test_streams_that_lead_to_a_pipe_since_python_started_are_changed_too(tmp_path: Path) -> None:
    """Python made them for files, which can seek; `os.dup2` put their descriptors on pipes, as for a forked job."""
    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 1); os.dup2(int(sys.argv[1]), 2)\n"
        "from firstorder.cli import main, output\n"
        "code = main(['stale', '--params', 'gr\\xf6\\xdfe'])\n"
        "print('\\xb1'); output.flush(); sys.exit(code)"
    )
    read, write = os.pipe()
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command, variables = [sys.executable, "-c", program, str(write)], {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, env=variables, stdout=out, stderr=err, pass_fds=[write], check=False)
    os.close(write)
    with os.fdopen(read, encoding="ascii") as pipe:
        lines = pipe.read().splitlines()
    assert done.returncode == 2, lines
    assert lines[0].startswith("firstorder: gr\\xf6\\xdfe: no such file")
    assert lines[1:] == ["+/-"]


def test_a_file_name_in_another_encoding_is_shown(tiny_project: Path) -> None:
    odd = os.fsdecode(b"caf\xe9\n2.yaml")
    done = run(tiny_project, "stale", "--params", odd)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"no such file" in done.stderr


def test_a_data_folder_that_the_locale_cannot_name_is_one_line(tiny_project: Path) -> None:
    write_params(tiny_project, TINY_PARAMS | {"data_folder": "dätä"})
    done = run(tiny_project, "pack", "omniglot", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_rows_keep_a_file_name_in_another_encoding(tmp_path: Path) -> None:
    row_files.write_rows(tmp_path / "rows.csv", ["name"], [[os.fsdecode(b"caf\xe9")], ["café"]])
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8") == "name\ncaf\\udce9\ncafé\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect() -> None:
        raise RuntimeError("the sizes of two tensors differ")

    with_verb(monkeypatch, defect)
    with pytest.raises(RuntimeError, match="two tensors"):
        main(["stale"])


def test_a_full_disk_is_reported_with_the_files_name(tmp_path: Path) -> None:
    """A limit on the size of files, as a full disk does, lets a write fail without a path."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from firstorder.files import replacing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from firstorder.data import packs; from tests.conftest import tiny_pack\n"
        "try: packs.write_pack(Path(sys.argv[1]), tiny_pack())\n"
        "except OSError as error: print(error.filename)\n"
    )
    path = tmp_path / "data" / "omniglot.npz"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("named", [None, "scratch", "another"])
def test_an_error_while_writing_names_the_file_or_what_it_named_itself(named: str | None, tmp_path: Path) -> None:
    path = tmp_path / "result.csv"

    def write() -> None:
        with replacing(path) as part:
            filename = str(part) if named == "scratch" else named
            raise OSError(errno.ENOSPC, "No space left on device", filename)

    with pytest.raises(OSError, match="No space") as caught:
        write()
    assert caught.value.filename == ("another" if named == "another" else str(path))
