"""Standard output and error: terminals that lack characters, and readers that are gone, as after `| head`."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from typing import Any

from firstorder.errors import one_line

GONE = (errno.EPIPE, errno.EIO)  # what writing to a stream whose reader is gone fails with
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
    print(f"firstorder: {one_line(message)}", file=sys.stderr)


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
