"""Messages for the user are one line, whatever the names and values in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from firstorder.__main__ import main
from firstorder.errors import UserError, lacks_memory, shown
from tests.cli.test_poor_machines import with_verb


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\nb", "a b"),
        ("a \r\n\t b", "a b"),
        ("a\u2028b\x85c\x0bd", "a b c d"),
        ("a\0b\x1b[2Jc\x7f", "a\\x00b\\x1b[2Jc\\x7f"),
        ("data/\udce9.npz", "data/\\udce9.npz"),
        ("<PIL.Image.Image image at 0x7F00aa> is none", "<PIL.Image.Image image> is none"),
        ("two  spaces, é and ± stay", "two  spaces, é and ± stay"),
    ],
)
def test_line_breaks_control_characters_and_addresses_are_taken_out(given: str, expected: str) -> None:
    assert str(UserError(given)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a\nb", "a\\nb"), ("a\r\tb", "a\\r\\tb"), ("\x1b[31m\x9b", "\\x1b[31m\\x9b"), ("a\u2028b", "a\\u2028b")),
        *(("gnp.\u202eexe", "gnp.\\u202eexe"), ("a\u200bb", "a\\u200bb"), ("\udce9", "\\udce9"), ("é ± ok", "é ± ok")),
    ],
)
def test_a_name_is_shown_with_escapes(name: str, expected: str) -> None:
    assert shown(name) == expected


def test_of_a_long_message_the_file_and_the_next_step_are_left() -> None:
    message = str(UserError("a.yaml: found " + "x" * 10**6 + "; correct it"))
    assert len(message) < 4000
    assert message.startswith("a.yaml: found xxx")
    assert message.endswith("xxx; correct it")


def _raised(error: Exception) -> Callable[[], object]:
    def run() -> None:
        raise error

    return run


def _raised_from(error: Exception, cause: Exception) -> Callable[[], object]:
    def run() -> None:
        raise error from cause

    return run


SHORTAGES: dict[str, Callable[[], object]] = {
    "Python": lambda: bytearray(2**50),
    "NumPy": lambda: np.ones(2**50),
    "torch": lambda: torch.empty(2**50),
    "CUDA": _raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")),
    "cuBLAS": _raised(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "C++": _raised(RuntimeError("std::bad_alloc")),
    "threads": _raised(RuntimeError("can't start new thread")),
    "system": _raised(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "data/omniglot.npz")),
    "a library": _raised(ImportError("libtorch_cpu.so: failed to map segment from shared object")),
    "a library of a library": _raised_from(ImportError("Unable to import required dependency numpy."), MemoryError()),
    "system, in a mapping": _raised(OSError("Cannot allocate memory (os error 12)")),
}


@pytest.mark.parametrize("shortage", SHORTAGES.values(), ids=SHORTAGES)
def test_too_little_memory_is_told_as_that_in_one_line(
    shortage: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_verb(monkeypatch, shortage)
    assert main(["stale"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("firstorder: not enough memory (")
    assert line.endswith("run less at the same time, or use a machine with more")


def test_other_errors_are_not() -> None:
    assert not lacks_memory(ImportError("No module named 'torch'"))
    for error in (RuntimeError("the sizes of two tensors differ"), OSError(errno.ENOSPC, "No space left on device")):
        assert not lacks_memory(error)
