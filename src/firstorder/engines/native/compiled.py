"""Compiles native.c and keeps the library in a folder of the user's own.

A library is loaded only if nobody else can have written it and its SHA-256 is the one noted beside it. A file that was
cut short, emptied or replaced is compiled again, once. A new library first computes a gradient in another process, so
that a compiler that makes libraries which crash cannot end this one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from firstorder.files import open_regular, replacing

SOURCE = Path(__file__).with_name("native.c")  # includes the *.h beside it
# No -ffast-math: sums keep their order, and NaN is propagated.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-pthread")
DEFINES = {"float": (), "double": ("-DDOUBLE",)}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_BYTES = 64 << 20  # of a library; ours have about a hundred thousand
_SECONDS, _SECONDS_UNSAID = 180, 10.0  # that a compiler may take, and until it is said what is waited for
# A gradient with each way to compute one: with vectors, and with tiles where there are any. What it is does not matter,
# only that it ends.
_TRY = """
import ctypes, sys
code, number = ctypes.CDLL(sys.argv[1]), {"float": ctypes.c_float, "double": ctypes.c_double}[sys.argv[2]]
code.net_new.restype, code.net_parameters.restype = ctypes.c_void_p, ctypes.c_long
for size, channels, pool in ((28, 1, 0), (84, 3, 1)):
    net = ctypes.c_void_p(code.net_new((ctypes.c_int * 7)(size, channels, 32, pool, 1, 0, 5), 2, 1, 1))
    assert net, "no network"
    many, pixels = code.net_parameters(net), 2 * channels * size * size
    given, images, result = (number * many)(*[0.01] * many), (number * pixels)(*[0.5] * pixels), (number * many)()
    code.net_gradient(net, 1, given, images, 0, (ctypes.c_int64 * 2)(0, 1), 2, result)
"""


def compiler() -> list[str] | None:
    """Return the command of the C compiler: $CC, or cc, gcc or clang from the path; None if there is none.

    Raises ValueError if $CC is not a command.
    """
    text = os.environ.get("CC", "")
    try:
        named = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"CC is {text!r}, expected a command ({error})") from None
    for candidate in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(candidate[0]):
            return candidate
    return None


def load(real: str, *defines: str) -> ctypes.CDLL | str:
    """Load native.c for `real` ("float" or "double") and `defines`, such as "-DPROFILE", compiling it if needed.

    Returns the reason if that fails.
    """
    try:
        command = compiler()
        if command is None:
            return "no C compiler found (install gcc or clang, or set CC)"
        version = _run([*command, "--version"], f"{command[0]} to say its version").stdout
        command = [*command, *FLAGS, *DEFINES[real], *defines]
        # The file name depends on all of these, so a change of any of them compiles anew.
        sources = [path.read_text(encoding="utf-8") for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h")))]
        identity = "\n".join([*sources, *command, version, platform.machine(), processor()])
        key = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]
        path = folder() / f"native-{real}-{key}.so"
        if not _is_whole(path):
            _compile(command, path, real)
        return ctypes.CDLL(str(path))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return " ".join(str(error).split())


def folder() -> Path:
    """Return the folder of compiled code, made if it is not there: $FIRSTORDER_CACHE, or one in the user's cache.

    Without a home that can be written to, it is one of the user's own in the folder of temporary files. Raises OSError
    if somebody else could write to it.
    """
    if chosen := os.environ.get("FIRSTORDER_CACHE"):
        return _own(Path(chosen).absolute())
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if base.is_absolute():
            return _own(base / "firstorder")
    except _SharedError:
        raise
    except (OSError, RuntimeError):  # RuntimeError: neither HOME nor an entry in passwd
        pass
    return _own(Path(tempfile.gettempdir()))


class _SharedError(OSError):
    """A folder that somebody else may write to."""


def _own(path: Path) -> Path:
    """Return `path`, made with mode 700 if it is not there, or, in a folder like /tmp, a folder of the user's in it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_mode & stat.S_ISVTX and status.st_mode & _OTHERS_WRITE:
        path /= f"firstorder-{os.geteuid()}"
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise _SharedError(
            f"{path} belongs to user {status.st_uid}, expected a folder of user {os.geteuid()}; set FIRSTORDER_CACHE"
        )
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise _SharedError(
            f"{path} has mode {mode:o}, so others could put code there; empty it and run: chmod 700 {path}"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written to; set FIRSTORDER_CACHE to a folder that can")
    return path


def processor() -> str:
    """Return what -march=native depends on: the processor's flags, if the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _is_whole(path: Path) -> bool:
    """Say whether a library is a file of this user with the SHA-256 that is noted beside it."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
                return False
            if status.st_size > _MOST_BYTES:
                return False
            found = hashlib.file_digest(file, "sha256").hexdigest()
        with open_regular(_noted(path)) as file:
            return file.read(100).decode("ascii").strip() == found
    except (OSError, ValueError):
        return False


def _noted(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _compile(command: list[str], path: Path, real: str) -> None:
    """Compile native.c to `path` and note its SHA-256; raises OSError, and leaves no file, if that fails."""
    with replacing(path) as part:
        done = _run(
            [*command, "-x", "c", str(SOURCE), "-o", str(part), "-lm"], f"{command[0]} to compile engine native"
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise OSError(f"{command[0]} cannot compile native.c: {lines[-1]}")
        if not part.stat().st_size:
            raise OSError(f"{command[0]} cannot compile native.c: it wrote nothing")
        tried = _run([sys.executable, "-I", "-c", _TRY, str(part), real], "the first gradient of engine native")
        if tried.returncode:
            lines = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
            raise OSError(f"native.c as compiled by {command[0]} does not compute a gradient: {lines[-1]}")
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    with replacing(_noted(path)) as part, part.open("w", encoding="ascii") as file:
        file.write(found + "\n")
        file.flush()
        os.fsync(file.fileno())


def _run(command: list[str], awaited: str) -> subprocess.CompletedProcess[str]:
    """Run a command; if it takes long, print once what is awaited."""
    wait = f"firstorder: waiting for {awaited}, at most {_SECONDS} s"
    saying = threading.Timer(_SECONDS_UNSAID, lambda: print(wait, file=sys.stderr))
    saying.start()
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    finally:
        saying.cancel()
