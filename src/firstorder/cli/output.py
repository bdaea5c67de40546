"""Standard output and error: terminals that lack characters, and readers that are gone, as after `| head`."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import select
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from firstorder.cli.verbs import VERBS
from firstorder.errors import one_line

DEFAULT_PARAMS = "params.yaml"
GONE = (errno.EPIPE, errno.EIO)  # what writing to a stream whose reader is gone fails with
SHELL_PATH = "FIRSTORDER_SHELL_PATH"  # PATH of the shell in which make was called; make puts .venv/bin before it
SHELL_FOLDER = "FIRSTORDER_SHELL_FOLDER"  # its folder, which is another one after `make -C`
_DVC = ("pull", "push", "fetch", "init", "commit", "config", "plots")
_PLAINLY = {"±": "+/-", "—": "-", "\N{MINUS SIGN}": "-", "≤": "<=", "≥": ">=", "…": "...", "→": "->"}


class _Unfailing(io.FileIO):
    """Standard error, to which writing may fail, as on a full disk: what is computed must not depend on it."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno in GONE:
                raise
            return len(content)


def show_everything() -> None:
    """Make the streams fit to be printed to: closed ones, what they cannot show, and a full disk under standard error.

    They replace characters that they cannot show, such as ± in an ASCII terminal, instead of failing.
    """
    codecs.register_error("firstorder", _plainly)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get the number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        raw = io.BufferedWriter(_Unfailing(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, encoding=encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # After the change Python asks where in its file the stream is. If the descriptor was put on a pipe since
            # the stream was made, that fails, but the stream is changed and can be written to.
            with contextlib.suppress(OSError):
                stream.reconfigure(errors="firstorder")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by ASCII; bytes of a file name in another encoding as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = "".join(_PLAINLY.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return plain, error.end


def say(message: str) -> None:
    """Print a message on standard error, in one line even if a file's name has several."""
    print(f"firstorder: {one_line(typed(message))}", file=sys.stderr)


def typed(text: str) -> str:
    """Return a text in which commands of this package and of DVC are as they can be typed in the caller's shell.

    A command that is not on its path gets its folder, which is that of Python: `.venv/bin/firstorder evaluate ...`.
    """
    return _commands().sub(lambda found: f"{_folder(found[0])}{found[0]}", text)


def params_option(params: str | Path) -> str:
    """Return what names a params.yaml in a command that is told: ` --params FILE`, or nothing for the default."""
    path = Path(params)
    if is_typed_here():
        return "" if path == Path(DEFAULT_PARAMS) else f" --params {shlex.quote(str(path))}"
    return f" --params {shlex.quote(str(path.resolve()))}"


def is_typed_here() -> bool:
    """Say whether the caller's shell is in the current folder, and not in another one as with `make -C`."""
    here = Path.cwd()
    return Path(os.environ.get(SHELL_FOLDER, here)).resolve() == here


@cache
def _commands() -> re.Pattern[str]:
    verbs = "|".join(map(re.escape, VERBS))
    return re.compile(rf"(?<![\w./-])(?:firstorder(?= (?:{verbs})(?![\w-]))|dvc(?= (?:{'|'.join(_DVC)})(?![\w-])))")


def _folder(name: str) -> str:
    """Return the folder of a command with a slash, relative if it is below the current one; empty if none is needed."""
    folder = Path(sys.executable).parent
    if shutil.which(name, path=os.environ.get(SHELL_PATH)) or not (folder / name).exists():
        return ""
    here = Path.cwd()
    return f"{folder.relative_to(here) if is_typed_here() and folder.is_relative_to(here) else folder}/"


def flush() -> None:
    """Flush standard output: a closed pipe raises an exception here, but only a warning when the interpreter exits."""
    sys.stdout.flush()


def redirect_closed() -> bool:
    """Redirect standard output and error to /dev/null if their reader is gone; return whether one was.

    An error alone does not prove that: its pipe may lead to another process, whose death must be reported.
    """
    found = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream that is no file
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                found = True
    return found
