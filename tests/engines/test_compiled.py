"""The library compiled from native.c is used only if it is whole, its user's own and proven to compute a gradient."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from firstorder.engines import choice
from firstorder.engines.native import compiled
from firstorder.engines.native import engine as native
from firstorder.settings import checks
from tests.conftest import TRAINING

needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="no C compiler here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache, which is used instead of the user's."""
    monkeypatch.setenv("FIRSTORDER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def script(path: Path, body: str) -> str:
    """Write a shell script that can be run; return its path."""
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": flip_a_bit,
    "one byte": lambda path: path.write_bytes(b"\x7f"),
    "its first page": lambda path: os.truncate(path, 4096),
    "text": lambda path: path.write_text("#!/bin/sh\n"),
    "a link": a_link,
    "no digest": lambda path: path.with_suffix(".sha256").unlink(),
    "another digest": lambda path: path.with_suffix(".sha256").write_text("0" * 64),
    "a digest that is no text": lambda path: path.with_suffix(".sha256").write_bytes(b"\xff\xfe"),
    "writable by others": lambda path: path.chmod(0o666),
}


@needs_compiler
def test_a_damaged_library_is_compiled_again_once(cache: Path) -> None:
    """Not loaded here between the damages: the system would give the library that is loaded already."""
    program = (
        "from firstorder.engines.native import compiled; "
        "compiled.FLAGS = ('-O0', '-fPIC', '-shared'); print(compiled.load('float'))"  # quickly compiled
    )

    def loaded() -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return done.stdout

    assert "CDLL" in loaded()
    (path,) = cache.glob("*.so")
    for name, damage in DAMAGE.items():
        damage(path)
        assert "CDLL" in loaded(), name
        assert compiled._is_whole(path), name
        stamp = path.stat().st_mtime_ns
        assert "CDLL" in loaded(), name
        assert path.stat().st_mtime_ns == stamp, name
    a_directory(path)
    assert "Is a directory" in loaded()


BAD_COMPILERS = {
    "exit 0": "it wrote nothing",
    "exit 3": "exit code 3",
    "echo none at all >&2; exit 1": "none at all",
    'while [ "$1" != -o ]; do shift; done; echo text > "$2"': "does not compute a gradient",
    'while [ "$1" != -o ]; do shift; done; cc -shared -fPIC -x c /dev/null -o "$2"': "does not compute a gradient",
    (
        'while [ "$1" != -o ]; do shift; done; echo "void *net_new(void) { return *(void **)8; } '
        'long net_parameters(void) { return 1; }" | cc -shared -fPIC -x c - -o "$2"'
    ): "does not compute a gradient: exit code -11",
}


@needs_compiler
@pytest.mark.parametrize(("body", "why"), BAD_COMPILERS.items())
def test_what_a_bad_compiler_makes_is_not_kept(
    body: str, why: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", script(tmp_path / "cc", body))
    found = compiled.load("float")
    assert isinstance(found, str)
    assert why in found
    assert "\n" not in found
    assert not list(cache.iterdir())


@pytest.mark.parametrize("body", ["exec sleep 60", "[ $1 = --version ] || exec sleep 60"])
def test_a_compiler_that_hangs_is_named_and_ended(
    body: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", script(tmp_path / "cc", body))
    monkeypatch.setattr(compiled, "_SECONDS", 1)
    monkeypatch.setattr(compiled, "_SECONDS_UNSAID", 0.1)
    assert "timed out after 1 seconds" in str(compiled.load("float"))
    assert f"waiting for {tmp_path / 'cc'} to " in capsys.readouterr().err
    assert not list(cache.glob("*"))


@pytest.mark.parametrize("command", ["gcc 'x", 'cc "', "cc \\"])
def test_a_command_that_no_shell_would_read_is_a_reason(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", command)
    found = compiled.load("float")
    assert isinstance(found, str)
    assert found.startswith("CC is ")


@needs_compiler
def test_another_version_of_the_compiler_compiles_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in "12":
        body = f'if [ "$1" = --version ]; then echo {version}; else exec cc "$@"; fi'
        monkeypatch.setenv("CC", script(tmp_path / "cc", body))
        assert not isinstance(compiled.load("float"), str)
    assert len(list(cache.glob("*.so"))) == 2


@needs_compiler
def test_a_library_that_computes_something_else_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole and ends normally, but its loss lacks the softmax, as a wrong optimisation could have it."""
    shutil.copytree(compiled.SOURCE.parent, tmp_path / "native")
    wrong = tmp_path / "native/native.c"
    text = wrong.read_text(encoding="utf-8")
    wrong.write_text(text.replace("        softmax(w);\n", "", 1), encoding="utf-8")
    assert wrong.read_text(encoding="utf-8") != text
    monkeypatch.setattr(compiled, "SOURCE", wrong)
    native.library.cache_clear()
    try:
        assert "gradient is wrong by" in str(native.library("float"))
    finally:
        native.library.cache_clear()


@needs_compiler
def test_a_change_of_any_source_compiles_anew(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(compiled.SOURCE.parent, tmp_path / "native")
    monkeypatch.setattr(compiled, "SOURCE", tmp_path / "native/native.c")
    assert not isinstance(compiled.load("float"), str)
    with (tmp_path / "native/products.h").open("a", encoding="utf-8") as file:
        file.write("/* changed */\n")
    assert not isinstance(compiled.load("float"), str)
    assert len(list(cache.glob("*.so"))) == 2


# --- Whose folder ---


def test_the_folder_is_made_for_its_user_alone(cache: Path) -> None:
    assert stat.S_IMODE(compiled.folder().stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(mode: int, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(OSError, match=f"mode {mode:o}.*chmod 700"):
        compiled.folder()


def test_in_a_folder_for_everybody_there_is_one_of_the_users_own(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o1777)
    made = compiled.folder()
    assert made == cache / f"firstorder-{os.geteuid()}"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.rmdir()
    (cache / "of somebody").mkdir()
    made.symlink_to(cache / "of somebody")
    with pytest.raises(OSError, match="expected a folder of user"):
        compiled.folder()


def test_a_folder_of_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(OSError, match=f"belongs to user {owner}"):
        compiled.folder()


@pytest.mark.parametrize("home", [None, "/proc/nobody", "/dev/null"])
def test_without_a_home_it_is_among_the_temporary_files(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIRSTORDER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home is None:

        def unknown() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", unknown)
    else:
        monkeypatch.setenv("HOME", home)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert compiled.folder() == tmp_path / f"tmp/firstorder-{os.geteuid()}"


# --- What is said ---


def test_it_is_said_once_why_plain_computes(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "reason", lambda network: "nothing compiles on this test's machine")
    settings = checks.load(tiny_project / "params.yaml").trainings[TRAINING]
    for _ in range(2):
        chosen = choice.choose(choice.Wish(name="auto", device=torch.device("cpu")), settings)
        assert chosen.name == "plain"
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing compiles on this test's machine" in line
