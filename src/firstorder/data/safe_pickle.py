"""Reads a pickle of arrays, dictionaries, lists, texts and numbers without running anything that it names.

A newcomer would get wrong: a pickle is a program, and an allow-list of names alone does not make one harmless. A file
of some bytes can ask for gigabytes, hang or crash Python by the key of a dictionary, or change the allowed functions
themselves. So `pickle._Unpickler`, the standard library's unpickler written in Python, is used with the opcodes that
are needed and no other, and an allowed name stands for a method here that checks its arguments. NumPy's own functions
are never handed out. docs/decisions.md says what this leaves open.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from firstorder.errors import UserError

# The largest file of its kind has 38,400 images of 84 x 84 x 3 bytes, and old protocols write a byte as two: 1.63 GB.
LARGEST_BYTES = 2 << 30
# Such a file takes 80,000 reads, or a million if each index is a number of NumPy's. One read makes some 100 bytes.
MOST_READS = 2_000_000
LONGEST_REASON = 200  # characters

# What NumPy writes around an array, and the method that carries it out: its module was numpy.core before NumPy 2.
NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "announced_array",
    ("numpy._core.multiarray", "_reconstruct"): "announced_array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "array",
    ("numpy._core.numeric", "_frombuffer"): "array",
    ("_codecs", "encode"): "encoded",
}
PLAIN = (str, bytes, int, float, np.longdouble, np.ndarray, type(None))
KIND = re.compile(r"[<>|=]?([biufSU][1-9][0-9]{0,3})")  # no objects, no records, no dates
OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL "
    "REDUCE BUILD"
)


def read(path: Path) -> Any:
    """Return what the pickle at `path` holds: dict, list, tuple, str, bytes, number, None or NumPy array.

    Texts of Python 2 come as str, each byte one character. Arrays are read-only.

    Raises UserError when the file is missing, unreadable, longer than LARGEST_BYTES, cut short or no pickle, and when
    it names anything but NumPy's arrays; then nothing of it has been run. The message says how far it was read.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file, path.stat().st_size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a pickle of arrays") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); expected a pickle of arrays: look at its permissions "
            "and at the disk"
        ) from None


def _read(path: Path, file: BinaryIO, size: int) -> Any:
    """Return what the open pickle holds; raises UserError as `read` does, and OSError when reading fails."""
    if size > LARGEST_BYTES:
        raise UserError(
            f"{path}: has {size:,} bytes, expected a pickle of at most {LARGEST_BYTES:,}: get the file again, or use "
            "the images in class folders"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of unknown escapes in a text
            value = _Unpickler(file, size).load()
        _check_plain(value)
        return value
    except OSError:
        raise
    except Exception as error:  # The documentation of pickle leaves open what a malformed one raises.
        reason = " ".join(str(error)[:LONGEST_REASON].split()) or type(error).__name__
        why = reason if isinstance(error, _RefusedError) else f"damaged, or no pickle ({reason})"
        raise UserError(
            f"{path}: refused at byte {file.tell():,}: {why}; only arrays, dicts, lists, texts and numbers are read "
            "from a pickle, and nothing in it is run: get the file again, or use the images in class folders"
        ) from None


class _RefusedError(ValueError):
    """The pickle holds something that is not read here."""


class _BoundedFile:
    """A file that makes no room for more bytes than it has left, and takes only so many reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.reads = file, size, 0

    def read(self, count: int) -> bytes:
        self._count()
        left = self.size - self.file.tell()
        if count > left:
            raise _RefusedError(f"the file ends too early: {count:,} bytes announced, {left:,} left")
        return self.file.read(count)

    def readline(self) -> bytes:
        self._count()
        return self.file.readline()

    def _count(self) -> None:
        self.reads += 1
        if self.reads > MOST_READS:
            raise _RefusedError(f"more than {MOST_READS:,} values and steps")


class _Kind:
    """A dtype in the making: BUILD tells its byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"


class _Announced:
    """An array in the making: BUILD brings its shape, kind and bytes."""

    array: np.ndarray[Any, Any] | None = None


class _Memo(dict[int, Any]):
    """What the pickle will use again. An array is put here when it is announced, and has its bytes only later."""

    def __getitem__(self, index: int) -> Any:
        value = super().__getitem__(index)
        return value if not isinstance(value, _Announced) or value.array is None else value.array


class _Opcodes(dict[int, Callable[[Any], None]]):
    """The opcodes that are carried out."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        name = next((opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code), None)
        if name is None:
            raise _RefusedError(f"byte {code:#04x} where an opcode is due")
        raise _RefusedError(f"opcode {name}, which makes objects or calls code")


class _Unpickler(pickle._Unpickler):
    """The standard library's unpickler with fewer opcodes, and with the methods that a pickle may call.

    These raise _RefusedError for what is not read here. On a malformed pickle they, and the library's, raise anything.
    """

    # What the library has and its type stubs leave out.
    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(_BoundedFile(file, size), encoding="latin1")
        self.memo = _Memo()
        # A byte of the file becomes one of a text and one of an array, once. Else a text used often would fill memory.
        self.room = 2 * size

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the method that carries out an allowed name."""
        if (module, name) not in NAMES:
            raise _RefusedError(f"it names {f'{module}.{name}'[:80]!r}")
        method: Callable[..., Any] = getattr(self, NAMES[module, name])
        return method

    # --- What a pickle may call ---

    def ndarray(self, *_: Any) -> Any:
        raise _RefusedError("a call of numpy.ndarray")

    def dtype(self, code: Any, *_: Any) -> _Kind:
        """Return the kind of a number or text; whether to align and to copy does not matter to it."""
        found = KIND.fullmatch(_text(code))
        if not found:
            raise _RefusedError(f"an array of kind {code[:20]!r}")
        return _Kind(found[1])

    def announced_array(self, kind_of_array: Any, shape: Any, _: Any) -> _Announced:
        """Return an array without content; NumPy writes the same arguments for each."""
        if kind_of_array != self.ndarray or shape != (0,):
            raise _RefusedError("an array of unknown form")
        return _Announced()

    def array(self, raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
        """Return a read-only view of `raw` as an array, if the sizes agree."""
        if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise _RefusedError("an array of unknown form")
        # Without elements an array could claim any length, and a list of its rows would have that length.
        if shape != (0,) and not all(type(length) is int and length > 0 for length in shape):
            raise _RefusedError("an array of unknown shape")
        dtype, raw = np.dtype(kind.order + kind.code), self.bytes_of(raw)
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise _RefusedError(f"an array of shape {shape} with {len(raw):,} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order=order)

    def scalar(self, kind: Any, raw: Any) -> Any:
        return self.array(raw, kind, (), "C").item()

    def encoded(self, text: Any, encoding: Any) -> bytes:
        """Return bytes, which Python 3 writes in protocols 0 to 2 as a text of characters below 256."""
        if encoding not in ("latin1", "latin-1"):
            raise _RefusedError("bytes in another encoding than latin1")
        return self.bytes_of(_text(text))

    def bytes_of(self, raw: Any) -> bytes:
        """Return bytes, which Python 2 writes as a text. They count against the room for data."""
        self.room -= len(raw)
        if self.room < 0:
            raise _RefusedError("more data than the file has bytes")
        return raw if type(raw) is bytes else _text(raw).encode("latin1")

    # --- Opcodes that differ from the library's ---

    def load_frame(self) -> None:
        """Pass over the length of a frame, which only says how much may be read at once."""
        self.read(8)

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, _Kind):
            _, made.order, *records = state[:5]
            if _text(made.order) not in ("<", ">", "|", "=") or records != [None] * 3:
                raise _RefusedError("an array of records, or of an unknown byte order")
        elif isinstance(made, _Announced):
            _, shape, kind, fortran, raw = state
            made.array = self.stack[-1] = self.array(raw, kind, shape, "F" if fortran else "C")
        else:
            raise _RefusedError(f"a state for something that is no array: {type(made).__name__}")

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.update(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def load_setitems(self) -> None:
        self.update(self.pop_mark())

    def update(self, items: list[Any]) -> None:
        """Set items of the dictionary on the stack. A key of nested tuples could take for ever to hash, or crash."""
        target = self.stack[-1]
        if type(target) is not dict:
            raise _RefusedError(f"items set in a {type(target).__name__}")
        for key in items[::2]:
            if type(key) not in (str, bytes):
                raise _RefusedError(f"a dict's key of type {type(key).__name__}, where a text is expected")
        target.update(zip(items[::2], items[1::2], strict=True))


def _check_plain(value: Any) -> None:
    """Raise _RefusedError where a name or dtype is left that no array was made of."""
    left, seen = [value], set()
    while left:
        item = left.pop()
        if isinstance(item, dict | list | tuple):
            if id(item) not in seen:
                seen.add(id(item))
                left.extend(item.values() if isinstance(item, dict) else item)
        elif not isinstance(item, PLAIN):
            raise _RefusedError("part of an array in place of a value")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _RefusedError(f"a {type(value).__name__} where a text is expected")
    return value


def _opcodes() -> _Opcodes:
    """Return the library's table of opcodes without those that are refused, and with the methods above for its own."""
    table = _Opcodes()
    for name in OPCODES.split():
        code = getattr(pickle, name)[0]
        table[code] = getattr(_Unpickler, pickle._Unpickler.dispatch[code].__name__)
    # The library makes room for a bytearray before it reads it.
    table[pickle.BYTEARRAY8[0]] = table[pickle.BINBYTES8[0]]
    return table


_Unpickler.dispatch = _opcodes()
