"""Signals that end Snakemake reach the jobs of this package, which save what is done.

`docker stop`, a supervisor or `kill` send TERM to make alone. Make passes it on to Snakemake, which would let the
running jobs go on to their end: for hours. Here they are told too. They end with what is saved, and Snakemake after
them. A closed terminal (HUP) is treated in the same way.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

PASSED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def pass_on() -> None:
    """Pass the signals on from now on; afterwards what Snakemake itself does at TERM. An ignored one stays ignored.

    Snakemake's own handler takes a lock that the interrupted code, or the handler of an earlier signal, may hold. It
    runs in a thread, which waits for that lock; within the handler it would be waited for without end.
    """
    ending: Any = signal.getsignal(signal.SIGTERM)

    def tell(number: int, frame: FrameType | None) -> None:
        for process in jobs():
            process.send_signal(number)
        if callable(ending):
            threading.Thread(target=ending, args=(number, frame), daemon=True).start()

    for number in PASSED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, tell)


def jobs() -> list[Any]:
    """Return the processes of this package among those that this process has started."""
    import psutil  # type: ignore[import-untyped]  # Snakemake brings it

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[1:3] == ["-m", "firstorder"]:
                found.append(process)
        except psutil.Error:
            continue  # it has ended
    return found
