"""Reads a pickle of arrays, dictionaries, lists, texts and numbers without running anything that it names.

A newcomer would get wrong: a pickle is a program, and unpickling runs it. Here Python's own `pickle` is not used at
all: its opcodes are read one by one and the harmless ones are carried out below. A name in a pickle stays a text; five
names that NumPy writes around an array's bytes have a fixed meaning, every other one is refused. Nothing is
allocated that the file does not hold: each length is compared with what is left of the file first.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from firstorder.errors import UserError

# What NumPy writes around an array: its module was numpy.core before NumPy 2.
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
MEANINGS = {
    **{f"{module} _reconstruct": "array" for module in MODULES[:2]},
    **{f"{module} scalar": "scalar" for module in MODULES[:2]},
    **{f"{module} _frombuffer": "buffer" for module in MODULES[2:]},
    "numpy ndarray": "type",
    "numpy dtype": "kind",
    "_codecs encode": "bytes",
}
KIND = re.compile(r"[biufSU][1-9][0-9]{0,3}")  # no objects, no records, no dates
PUSHED = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
PUSHED_AS_THEY_ARE = frozenset(PUSHED.split())
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "DICT": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _RefusedError(ValueError):
    """The pickle holds something that is not read here."""


class _Meaning(str):
    """A name that the pickle may hold; never callable."""


class _Kind:
    """A dtype in the making: BUILD tells its byte order."""

    def __init__(self, code: Any) -> None:
        self.code, self.order = _text(code).lstrip("<>|="), "|"
        if not KIND.fullmatch(self.code):
            raise _RefusedError(f"an array of kind {self.code[:20]!r}")

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise _RefusedError("an array of records")
        self.order = _text(state[1])

    def dtype(self) -> np.dtype[Any]:
        if self.order not in "<>|=" or len(self.order) != 1:
            raise _RefusedError(f"byte order {self.order[:20]!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """An array in the making: BUILD brings its shape, kind and bytes."""

    value: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array of unknown form")
        _, shape, kind, fortran, raw = state
        self.value = _array(raw, kind, shape, "F" if fortran else "C")


class _BoundedFile:
    """A file that never reads, nor makes room for, more bytes than it has left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise _RefusedError(f"{count:,} bytes announced, {self.size - self.file.tell():,} left")
        return self.file.read(count)


def read(path: Path) -> Any:
    """Return what the pickle at `path` holds: dict, list, tuple, str, bytes, number, None or NumPy array.

    Texts of Python 2 come as str, each byte one character. Raises UserError when the file is cut short, is no pickle,
    or names anything but NumPy's arrays; then nothing of it has been run.
    """
    position = 0
    try:
        with path.open("rb") as file:
            machine = _Machine()
            for opcode, argument, found_at in pickletools.genops(_BoundedFile(file, path.stat().st_size)):  # type: ignore[arg-type]
                position = found_at or 0
                machine.step(opcode.name, argument)
            return machine.result()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a pickle of arrays") from None
    # All that a malformed pickle makes the few lines below raise (IndexError: a stack that has run empty).
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: refused at byte {position:,}: {why}; only arrays, dicts, lists, texts and numbers are read from "
            "a pickle, and nothing in it is run: get the file again, or use the images in class folders"
        ) from None


class _Machine:
    """The stack machine that a pickle is written for, without its opcodes that make objects."""

    def __init__(self) -> None:
        self.stacks: list[list[Any]] = [[]]  # a stack for each open mark
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in PUSHED_AS_THEY_ARE:
            self.push(argument)
        elif name in CONSTANTS:
            self.push(CONSTANTS[name]())
        elif name in COLLECTIONS:
            self.push(COLLECTIONS[name](self.since_mark()))
        elif name in TUPLES:
            self.push(tuple(reversed([self.pop() for _ in range(TUPLES[name])])))
        elif (action := getattr(self, f"op_{name.lower()}", None)) is not None:
            action(argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _RefusedError(f"opcode {name}, which makes objects or calls code")

    def result(self) -> Any:
        if len(self.stacks) != 1 or len(self.stacks[0]) != 1:
            raise _RefusedError("not one value")
        return self.pop()

    def push(self, value: Any) -> None:
        self.stacks[-1].append(value)

    def pop(self) -> Any:
        return self.stacks[-1].pop()

    def since_mark(self) -> list[Any]:
        if len(self.stacks) == 1:
            raise _RefusedError("no mark")
        return self.stacks.pop()

    def op_mark(self, _: None) -> None:
        self.stacks.append([])

    def op_pop(self, _: None) -> None:
        self.pop() if self.stacks[-1] else self.since_mark()

    def op_pop_mark(self, _: None) -> None:
        self.since_mark()

    def op_memoize(self, _: None) -> None:
        self.op_put(len(self.memo))

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stacks[-1][-1]

    op_binput = op_long_binput = op_put

    def op_get(self, index: int) -> None:
        value = self.memo[index]
        # An array is kept when it is announced and has its bytes only later.
        self.push(value.value if isinstance(value, _Array) and value.value is not None else value)

    op_binget = op_long_binget = op_get

    def op_append(self, _: None) -> None:
        self.extend([self.pop()])

    def op_appends(self, _: None) -> None:
        self.extend(self.since_mark())

    def op_setitem(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def op_setitems(self, _: None) -> None:
        self.update(self.since_mark())

    def op_global(self, name: str) -> None:
        if name not in MEANINGS:
            raise _RefusedError(f"it names {name.replace(' ', '.')[:80]!r}")
        self.push(_Meaning(MEANINGS[name]))

    def op_stack_global(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        self.op_global(f"{_text(module)} {_text(name)}")

    def op_reduce(self, _: None) -> None:
        arguments, meaning = self.pop(), self.pop()
        if not isinstance(meaning, _Meaning) or not isinstance(arguments, tuple):
            raise _RefusedError("a call of something that is not NumPy's")
        self.push(_made(meaning, arguments))

    def op_build(self, _: None) -> None:
        state, made = self.pop(), self.pop()
        if not isinstance(made, _Kind | _Array):
            raise _RefusedError("a state for something that is no array")
        made.build(state)
        self.push(made.value if isinstance(made, _Array) else made)

    def extend(self, items: list[Any]) -> None:
        target = self.stacks[-1][-1]
        if type(target) is not list:
            raise _RefusedError(f"items appended to a {type(target).__name__}")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stacks[-1][-1]
        if type(target) is not dict:
            raise _RefusedError(f"items set in a {type(target).__name__}")
        target.update(zip(items[::2], items[1::2], strict=True))


def _made(meaning: str, arguments: tuple[Any, ...]) -> Any:
    """Return what one of NumPy's names stands for with these arguments."""
    if meaning == "array":
        return _Array()
    if meaning == "kind":
        return _Kind(arguments[0])
    if meaning == "bytes":
        return _bytes(*arguments)
    if meaning == "scalar":
        kind, raw = arguments
        return _array(raw, kind, (), "C").item()
    if meaning == "buffer":
        return _array(*arguments)
    raise _RefusedError("a call of a type")


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Return a read-only view of `raw` as an array, if the sizes agree."""
    if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise _RefusedError("an array of unknown form")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _RefusedError("an array of unknown shape")
    dtype, raw = kind.dtype(), _bytes(raw)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise _RefusedError(f"an array of shape {shape} with {len(raw):,} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _bytes(value: Any, encoding: Any = "latin1") -> bytes | bytearray:
    """Return bytes, which Python 2 (and Python 3 in its old protocols) writes as a text of characters below 256."""
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"bytes in encoding {encoding!r}")
    if isinstance(value, bytes | bytearray):
        return value
    return _text(value).encode("latin1")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _RefusedError(f"a {type(value).__name__} where a text is expected")
    return value
