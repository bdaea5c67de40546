"""Reads a pickle of arrays, dictionaries, lists, texts and numbers without calling any function that it names.

A pickle is a program, and a list of allowed names alone does not make it harmless. A file of a few bytes can allocate
gigabytes, hang or crash Python with the key of a dictionary, or modify the allowed functions themselves. So this uses
`pickle._Unpickler`, the standard library's unpickler written in Python, restricted to the opcodes that are needed. Each
allowed name is mapped to a method here that checks its arguments; NumPy's own functions are never given to the pickle.
docs/decisions.md says which risks remain.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from firstorder.errors import UserError
from firstorder.files import open_regular, unreadable

# The largest expected file has 38,400 images of 84 x 84 x 3 bytes, and old protocols write each byte as two: 1.63 GB.
LARGEST_BYTES = 2 << 30
# That file takes 80,000 reads, or a million if each index is a NumPy number. A read allocates about 100 bytes.
MOST_READS = 2_000_000
LONGEST_REASON = 200  # characters

# The names that NumPy writes for an array, and the method here for each. NumPy 2 renamed numpy.core to numpy._core.
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
    """Return the content of the pickle at `path`: dict, list, tuple, str, bytes, number, None or NumPy array.

    Texts of Python 2 are returned as str, one character per byte. Arrays are read-only.

    Raises UserError if the file is missing, unreadable, larger than LARGEST_BYTES, truncated or not a pickle, or if it
    names anything but NumPy's arrays. The message says how far it was read. Nothing named in the file is ever called.
    """
    try:
        with open_regular(path) as file:
            return _read(path, file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a pickle of arrays") from None
    except OSError as error:
        raise unreadable(path, error, "a pickle of arrays") from None


def _read(path: Path, file: BinaryIO, size: int) -> Any:
    """Return the content of the open pickle; raises UserError as `read` does, and OSError if reading fails."""
    if size > LARGEST_BYTES:
        raise UserError(
            f"{path}: has {size:,} bytes, expected a pickle of at most {LARGEST_BYTES:,}: get the file again, or use "
            "the images in class folders"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about unknown escapes in a text
            value = _Unpickler(file, size).load()
        _check_plain(value)
        return value
    except (OSError, MemoryError):  # the file is bounded, and so is all that is made of it
        raise
    except Exception as error:  # The documentation of pickle does not say what a malformed one raises.
        reason = " ".join(str(error)[:LONGEST_REASON].split()) or type(error).__name__
        why = reason if isinstance(error, _RefusedError) else f"damaged, or not a pickle ({reason})"
        raise UserError(
            f"{path}: refused at byte {file.tell():,}: {why}; only arrays, dicts, lists, texts and numbers are read "
            "from a pickle, and nothing in it is run: get the file again, or use the images in class folders"
        ) from None


class _RefusedError(ValueError):
    """The pickle contains something that is not allowed here."""


class _BoundedFile:
    """A file that refuses to read more bytes than are left, before allocating them, and limits the number of reads."""

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
    """A dtype whose byte order is still to be set by BUILD."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"


class _Announced:
    """An array whose shape, kind and bytes are still to be set by BUILD."""

    array: np.ndarray[Any, Any] | None = None


class _Memo(dict[int, Any]):
    """Values that the pickle refers to again. An array is stored when it is announced, before it gets its bytes."""

    def __getitem__(self, index: int) -> Any:
        value = super().__getitem__(index)
        return value if not isinstance(value, _Announced) or value.array is None else value.array


class _Opcodes(dict[int, Callable[[Any], None]]):
    """The allowed opcodes: code -> method."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        name = next((opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code), None)
        if name is None:
            raise _RefusedError(f"byte {code:#04x} where an opcode is due")
        raise _RefusedError(f"opcode {name}, which makes objects or calls code")


class _Unpickler(pickle._Unpickler):
    """The standard library's unpickler with fewer opcodes, and with the methods that a pickle may call.

    These methods raise _RefusedError for anything that is not allowed. On a malformed pickle, they and the library's
    methods may raise any exception.
    """

    # Attributes of the library's class that its type stubs lack.
    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(_BoundedFile(file, size), encoding="latin1")
        self.memo = _Memo()
        # Each byte of the file may be used once in a text and once in an array, so that repeated texts fill no memory.
        self.room = 2 * size

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the method for an allowed name."""
        if (module, name) not in NAMES:
            raise _RefusedError(f"it names {f'{module}.{name}'[:80]!r}")
        method: Callable[..., Any] = getattr(self, NAMES[module, name])
        return method

    # --- What a pickle may call ---

    def ndarray(self, *_: Any) -> Any:
        raise _RefusedError("a call of numpy.ndarray")

    def dtype(self, code: Any, *_: Any) -> _Kind:
        """Return the kind of a number or text; the other arguments, align and copy, are irrelevant to it."""
        found = KIND.fullmatch(_text(code))
        if not found:
            raise _RefusedError(f"an array of kind {code[:20]!r}")
        return _Kind(found[1])

    def announced_array(self, kind_of_array: Any, shape: Any, _: Any) -> _Announced:
        """Return an array without content; NumPy writes the same arguments for every array."""
        if kind_of_array != self.ndarray or shape != (0,):
            raise _RefusedError("an array of unknown form")
        return _Announced()

    def array(self, raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
        """Return `raw` as a read-only array, if the sizes agree."""
        if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise _RefusedError("an array of unknown form")
        # An array without elements could claim any length, and a list of its rows would have that length.
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
        """Return bytes, which Python 2 writes as a text. Their number is subtracted from the room for data."""
        self.room -= len(raw)
        if self.room < 0:
            raise _RefusedError("more data than the file has bytes")
        return raw if type(raw) is bytes else _text(raw).encode("latin1")

    # --- Opcodes implemented differently from the library ---

    def load_frame(self) -> None:
        """Skip the length of a frame, which only says how much may be read at once."""
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
        """Set items of the dictionary on the stack. Hashing a key of nested tuples could hang or crash Python."""
        if type(target := self.stack[-1]) is not dict:
            raise _RefusedError(f"items set in a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes):
                raise _RefusedError(f"a dict's key of type {type(key).__name__}, where a text is expected")
            if key in target:
                raise _RefusedError(f"the key {key[:40]!r} is given twice")
            target[key] = value


def _check_plain(value: Any) -> None:
    """Raise _RefusedError if a name or dtype remains that did not become part of an array."""
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
    """Return the library's table of opcodes, reduced to the allowed ones, with the methods above."""
    table = _Opcodes()
    for name in OPCODES.split():
        code = getattr(pickle, name)[0]
        table[code] = getattr(_Unpickler, pickle._Unpickler.dispatch[code].__name__)
    # The library allocates a bytearray before reading it.
    table[pickle.BYTEARRAY8[0]] = table[pickle.BINBYTES8[0]]
    return table


_Unpickler.dispatch = _opcodes()
