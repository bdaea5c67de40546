"""Signals that are passed on to jobs: none of them can stop the process that passes them on from ending."""

from __future__ import annotations

import subprocess
import sys

# As Snakemake does: its handler of TERM takes a lock that the main thread takes too, again and again.
PROGRAM = """
import os, signal, threading, time
from firstorder.upkeep import passing

lock, told = threading.Lock(), []

def exit_gracefully(number, frame):
    with lock:
        told.append(number)

signal.signal(signal.SIGTERM, exit_gracefully)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
passing.pass_on()
with lock:  # where the signals arrive
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.1)
    assert told == []
while len(told) < 2:
    time.sleep(0.01)
print(sorted(told) == sorted([signal.SIGTERM, signal.SIGHUP]))
"""


def test_signals_that_arrive_while_snakemake_holds_its_lock_are_handled_once_it_is_free() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
