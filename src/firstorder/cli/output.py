"""Standard output that somebody may have stopped reading, as after `| head`."""

from __future__ import annotations

import contextlib
import os
import select
import sys


def flush() -> None:
    """Write out what was printed: here a closed pipe is still an exception, at the interpreter's end a complaint."""
    if sys.stdout is not None:  # as after >&-
        sys.stdout.flush()


def nobody_reads() -> bool:
    """Say whether standard output or error is a pipe that nobody reads any more; what is still to come goes nowhere.

    A broken pipe alone does not say so: it may be one to another process, whose death is to be told.
    """
    found = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, or no file
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                found = True
    return found
