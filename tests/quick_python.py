"""A `python` for Snakemake's jobs in tests that avoids importing torch and pandas in every job.

The imports of a job take seconds, its work a fraction of one. So a server process imports everything once and forks for
each job. The job has its own working folder, output and exit code, as if Python had been started for it. This file, run
as a program, is the server; `install` starts it and writes the script `python`, which sends it `-m firstorder ...`.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# Audit events of what changes a file or a folder; their first argument is its path.
CHANGES = {"open", "os.mkdir", "os.chmod", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
CLIENT = """#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
fds = array.array("i", [0, 1, 2])
server.sendmsg([len(request).to_bytes(8, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
server.sendall(request)
sys.exit(int(server.recv(16) or 1))
"""


def install(folder: Path) -> subprocess.Popen[bytes]:
    """Write the script `folder`/python and start its server, the returned process."""
    folder.mkdir(parents=True, exist_ok=True)
    address = str(folder / "socket")
    python = folder / "python"
    python.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    python.chmod(0o755)
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    server = subprocess.Popen([sys.executable, "-m", "tests.quick_python", address], env=environment)
    while not Path(address).exists() and server.poll() is None:
        time.sleep(0.05)
    return server


def serve(address: str) -> None:
    """Import everything, then fork for every request."""
    import matplotlib.figure  # noqa: F401
    import seaborn  # noqa: F401
    import torch

    from firstorder.engines.native import engine  # noqa: F401
    from firstorder.report.text import page, tables  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.part")
    listener.listen(16)
    Path(f"{address}.part").rename(address)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(client)
        client.close()


def _answer(client: socket.socket) -> None:
    """Run the job and end this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    fds = array.array("i")
    size, passed, _, _ = client.recvmsg(8, socket.CMSG_LEN(3 * fds.itemsize))
    fds.frombytes(passed[0][2])
    request = b""
    while len(request) < int.from_bytes(size, "little"):
        request += client.recv(1 << 16)
    arguments, folder, environment = json.loads(request)
    for number, handle in enumerate(fds):
        os.dup2(handle, number)
    # Python asks once, when it makes a stream, whether the stream can seek; those of the server may lead elsewhere.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code: Any = 1
    try:
        code = _run(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()  # os._exit below leaves nobody else to say it
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        client.sendall(str(code).encode())
        os._exit(0)


def _run(arguments: list[str]) -> int:
    import firstorder
    from firstorder import __main__

    if arguments[:2] != ["-m", "firstorder"]:
        print(f"tests/quick_python.py: only -m firstorder is known, found {arguments}", file=sys.stderr)
        return 1
    if "NUMERICS_VERSION" in os.environ:  # a test simulates an edited package
        firstorder.NUMERICS_VERSION = int(os.environ["NUMERICS_VERSION"])
    if "KILLED_AT" in os.environ:
        kill_at(int(os.environ["KILLED_AT"]), Path.cwd())
    return __main__.main(arguments[2:])


def kill_at(change: int, folder: Path) -> None:
    """Send this process SIGKILL just before its n-th change of a file or folder below `folder`, counted from 1.

    What a process leaves on a disk differs only by the number of changes it has made. States and counts are saved after
    every step, so that a change follows each of them.
    """
    from firstorder.method import training
    from firstorder.records import counts

    training.SECONDS_BETWEEN_SAVES = counts.SECONDS_BETWEEN_SAVES = 0.0
    left = change

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event in CHANGES and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and folder in Path(os.fsdecode(arguments[0])).absolute().parents:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if __name__ == "__main__":
    serve(sys.argv[1])
