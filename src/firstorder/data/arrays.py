"""Arrays in an npz file, read within bounds: an array gets only memory that the file can account for."""

from __future__ import annotations

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.files import open_regular

# What NumPy and zipfile raise for a damaged npz. TypeError: it is an npy file. SyntaxError and TokenError: NumPy parses
# the header of an array as Python.
NUMPY = (
    OSError,
    ValueError,
    OverflowError,
    KeyError,
    EOFError,
    TypeError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
)
DAMAGED = (*NUMPY, zipfile.BadZipFile, zlib.error, struct.error)

LARGEST_ARRAY_BYTES = 4 << 30  # mini-ImageNet has 1.3 GB
# Above FREE_BYTES, an array may be compressed at most so many times; drawings are about twenty times.
LARGEST_RATIO, FREE_BYTES = 200, 64 << 20


def is_text(array: np.ndarray[Any, Any]) -> bool:
    """Say whether an array holds texts only: NumPy makes texts of any number, and Python cannot write all of them."""
    if array.dtype.kind != "U":
        return False
    codes = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), np.uint32)
    return not ((codes >= 0x110000) | ((codes >= 0xD800) & (codes < 0xE000))).any()


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Read those of the arrays `names` that a pack has. An array gets only memory that the file can account for.

    Raises OSError or another of DAMAGED if the file cannot be read or is no whole pack.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = {name: f"{name}.npy" for name in names}
        there = set(archive.namelist())
        return {name: _array(archive, member) for name, member in members.items() if member in there}


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    info = archive.getinfo(name)
    size = info.file_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
        raise ValueError(f"{name} is neither stored nor deflated")
    if size > LARGEST_ARRAY_BYTES or size > FREE_BYTES + LARGEST_RATIO * info.compress_size:
        raise ValueError(f"{name} unpacks to {size:,} bytes")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f"{name} is in format {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers of Python 2
            shape, _, dtype = headers[version](member)
        if member.tell() + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name} has {size:,} bytes, not those of {dtype} {shape}")
    with archive.open(info) as member:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: np.ndarray[Any, Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # which also checks the checksum
            raise ValueError(f"{name} goes on after its end")
    return array
