"""Figures are the same whatever a user has set for matplotlib: by a file, in this process, or as a date of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from firstorder.report.figures import style

PROGRAM = """
from pathlib import Path
from firstorder.report.figures import style
with style.applied():
    figure = style.new_figure(1.5)
    axis = figure.subplots()
    axis.plot([0, 1], [1, 2])
    axis.set_title("a_b $5")
    for name in ("x.png", "x.pdf"):
        style.save(figure, Path(name))
"""
SETTINGS = {
    "LaTeX": b"text.usetex: True\n",
    "other looks": b"font.size: 30\nlines.linewidth: 9\naxes.facecolor: red\nsavefig.bbox: tight\nfigure.dpi: 30\n",
    "another backend": b"backend: TkAgg\npdf.compression: 0\npdf.use14corefonts: True\n",
    "nonsense": b"no: such: key\n\x00\x01\n",
    "another encoding": b"font.family: \xff\xfe\xe9\n",
}


def draw(folder: Path, **variables: str) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "MPLCONFIGDIR": str(folder), **variables}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "matplotlibrc" not in done.stderr
    return {name: (folder / name).read_bytes() for name in ("x.png", "x.pdf")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return draw(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("text", SETTINGS.values(), ids=SETTINGS)
def test_no_file_of_settings_is_read(tmp_path: Path, plain: dict[str, bytes], text: bytes) -> None:
    """Neither that of the user's folder and the one in a variable, nor that of the working folder."""
    (tmp_path / "matplotlibrc").write_bytes(text)
    assert draw(tmp_path / "elsewhere", MPLCONFIGDIR=str(tmp_path), MATPLOTLIBRC=str(tmp_path)) == plain
    (tmp_path / "here").mkdir()
    (tmp_path / "matplotlibrc").rename(tmp_path / "here/matplotlibrc")
    assert draw(tmp_path / "here") == plain


def test_a_backend_that_is_none_changes_nothing(tmp_path: Path, plain: dict[str, bytes]) -> None:
    assert draw(tmp_path, MPLBACKEND="a toaster") == plain


def test_a_fifo_of_settings_is_not_waited_for(tmp_path: Path, plain: dict[str, bytes]) -> None:
    os.mkfifo(tmp_path / "matplotlibrc")
    assert draw(tmp_path) == plain


@pytest.mark.parametrize("date", ["junk", "99999999999999", "-1", "", "1e3", "0"])
def test_a_date_of_files_changes_nothing(
    tmp_path: Path, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
    monkeypatch.chdir(tmp_path)
    exec(PROGRAM, {})
    assert {name: (tmp_path / name).read_bytes() for name in plain} == plain
    assert os.environ["SOURCE_DATE_EPOCH"] == date


def test_what_a_process_has_set_is_neither_used_nor_lost(
    tmp_path: Path, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"text.usetex": True, "font.size": 30.0}):
        exec(PROGRAM, {})
        assert (mpl.rcParams["text.usetex"], mpl.rcParams["font.size"]) == (True, 30.0)
    assert {name: (tmp_path / name).read_bytes() for name in plain} == plain
    assert style.NOTHING
