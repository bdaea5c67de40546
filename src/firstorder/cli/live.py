"""A command of make in a terminal: what it prints, and below that a line for each job, which is refreshed.

The jobs' lines of progress become these lines; all others are passed on as they come. The logs of the jobs keep both.
Anywhere but in a terminal nothing of this happens, and lines follow each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import FrameType

from firstorder.cli import output


def is_terminal() -> bool:
    """Say whether all that a command prints goes to a terminal that can go back to earlier lines."""
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def run(command: Sequence[str]) -> int:
    """Run a command, which has the locks of this process too, and show what it prints; return its exit code.

    TERM and HUP are passed on to it. A terminal sends INT to both, and the command decides what follows.
    """
    from firstorder.upkeep.locks import HELD
    from firstorder.upkeep.passing import PASSED

    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, HELD: "1"},
        close_fds=False,
        encoding="utf-8",
        errors="replace",
    )
    assert child.stdout is not None

    def tell(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.getsignal(number) for number in (*PASSED, signal.SIGINT)}
    for number in before:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, tell if number in PASSED else signal.SIG_IGN)
    try:
        try:
            show(child.stdout)
        except OSError:  # the terminal is gone, and what is left for it must not fail at this process's end
            output.redirect_closed()
        for _ in child.stdout:
            pass  # the command saves what is done, and says so: nobody reads it, but it must not fail for that
        code = child.wait()
    finally:
        for number, known in before.items():
            signal.signal(number, known)
    return code if code >= 0 else 128 - code


def show(lines: Iterable[str]) -> None:
    """Show lines until there are no more: those of running jobs below, the last one of each, and all others above."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from firstorder.upkeep import status

    jobs: dict[str, tuple[float, status.Running]] = {}
    console = Console(highlight=False)
    with Live(
        console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as live:
        for line in lines:
            now = time.monotonic()
            job = status.parse(line)
            if job is not None and job.done < job.total:
                jobs[job.what] = now, job
            else:
                console.print(Text(line.rstrip("\r\n")), soft_wrap=True)
                jobs.pop(job.what if job is not None else "", None)
            jobs = {name: one for name, one in jobs.items() if now - one[0] < status.SILENT}
            running = [one for _, one in jobs.values()]
            text = status.describe(running, [], datetime.now()) if running else ""
            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
