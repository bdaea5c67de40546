"""Standard output and error whose reader may have closed the pipe, as `| head` does."""

from __future__ import annotations

import contextlib
import os
import select
import sys


def flush() -> None:
    """Flush standard output: a closed pipe raises an exception here, but only a warning when the interpreter exits."""
    if sys.stdout is not None:  # None if it was closed with >&-
        sys.stdout.flush()


def redirect_closed() -> bool:
    """Redirect standard output and error to /dev/null if they are closed pipes; return whether one was closed.

    A BrokenPipeError alone does not prove that: its pipe may lead to another process, whose death must be reported.
    """
    found = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream that is None or no file
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                found = True
    return found
