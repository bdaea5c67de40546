"""What a command of make shows: in a terminal a refreshed line for each job, elsewhere plain lines."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STEP = "a training seed 0: {}/9 outer steps ({} %), 1.0 outer steps/s, 0:00:09 left, meta-test 80.{} %"
PROGRAM = f"""
import sys
print("a rule begins", flush=True)
for done in (1, 2, 9):
    print({STEP!r}.format(done, done * 11, done), file=sys.stderr, flush=True)
print("[b]the end[/b]", flush=True)
sys.exit(7)
"""
WAITING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved"))
print("begun", flush=True)
time.sleep(30)
"""


def held(folder: Path, program: str, output: int) -> subprocess.Popen[bytes]:
    """Start `firstorder hold` with a program in place of Snakemake."""
    command = [sys.executable, "-m", "firstorder", "hold", f"--params={folder}/params.yaml", "--told", "make"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen(
        [*command, "--", sys.executable, "-c", program], stdout=output, stderr=output, env=environment
    )


def in_a_terminal(folder: Path, program: str, ended_at: str = "") -> tuple[int, str]:
    """Run it in a pseudo-terminal; end it when it has printed `ended_at`. Return its exit code and what was shown."""
    ours, theirs = pty.openpty()
    process = held(folder, program, theirs)
    os.close(theirs)
    shown = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the terminal's other end is closed
            break
        if ended_at and ended_at.encode() in shown:
            process.send_signal(signal.SIGTERM)
            ended_at = ""
    os.close(ours)
    return process.wait(timeout=30), shown.decode()


def test_a_terminal_shows_one_refreshed_line_for_a_job(tiny_project: Path) -> None:
    """The lines of progress replace each other, and the last one stays; the exit code is that of the command."""
    code, shown = in_a_terminal(tiny_project, PROGRAM)
    assert code == 7
    for done in (1, 2):
        assert f"a training seed 0  {done}/9 outer steps ({done * 11} %)" in shown
    # Of each line of progress but the last only the table is shown, and it is erased before the next one.
    assert re.findall(r"a training seed 0: (\d)/9", shown) == ["9"]
    assert shown.count("\x1b[2K") >= 2
    assert shown.index("a rule begins") < shown.index("seed 0  1/9") < shown.index("[b]the end[/b]")


def test_elsewhere_lines_follow_each_other(tiny_project: Path) -> None:
    process = held(tiny_project, PROGRAM, subprocess.PIPE)
    said = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 7
    assert "\x1b" not in said
    assert "[b]the end[/b]" in said


def test_a_signal_reaches_the_command(tiny_project: Path) -> None:
    """`kill` ends make alone, which passes it on; the command saves what is done, and says so."""
    code, shown = in_a_terminal(tiny_project, WAITING, ended_at="begun")
    assert code == 1
    assert "saved" in shown


def test_a_terminal_that_is_closed_does_not_end_the_command(tiny_project: Path) -> None:
    """It saves what is done, as it is told by a signal of its own; what it prints must not make it fail."""
    ours, theirs = pty.openpty()
    program = PROGRAM.replace("for done", "import time; time.sleep(2)\nfor done")
    process = held(tiny_project, program.replace("sys.exit(7)", "open('ended', 'w').close(); sys.exit(7)"), theirs)
    os.close(theirs)
    while b"a rule begins" not in os.read(ours, 4096):
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 7
    assert Path("ended").exists()
