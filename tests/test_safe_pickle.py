"""The reader of pickles: NumPy's arrays and plain values of every protocol are read, all else is refused unrun."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder import safe_pickle
from firstorder.errors import UserError

PROTOCOLS = range(1, pickle.HIGHEST_PROTOCOL + 1)


def content() -> dict[str, Any]:
    """Make what a cache holds, and every other plain value."""
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    return {
        "image_data": images,
        "again": images,
        "class_dict": {"n01532829": [0, 2], "n02110063": [1]},
        "kinds": [np.arange(6.0).reshape(2, 3).T, np.array([1, -2], ">i4"), np.array(["ab", "c"]), np.float32(0.5)],
        "plain": (None, True, False, -1, 2**80, 1.5, "é", b"\x00\xff", (), (1,), (1, 2, 3, 4)),
    }


def assert_same(read: Any, made: Any) -> None:
    if isinstance(made, np.ndarray):
        assert read.dtype == made.dtype
        np.testing.assert_array_equal(read, made)
    elif isinstance(made, dict):
        assert list(read) == list(made)
        for key, value in made.items():
            assert_same(read[key], value)
    elif isinstance(made, list | tuple):
        assert type(read) is type(made)
        for one, other in zip(read, made, strict=True):
            assert_same(one, other)
    else:
        assert read == made


def refusal(path: Path, raw: bytes) -> str:
    """Read bytes that must be refused; return the one line."""
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        safe_pickle.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: refused at byte ")
    return message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_values_are_read_in_every_binary_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    path.write_bytes(pickle.dumps(content(), protocol))
    assert_same(safe_pickle.read(path), content())


def test_an_array_met_twice_is_one_array(tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    path.write_bytes(pickle.dumps(content()))
    read = safe_pickle.read(path)
    assert read["image_data"] is read["again"]


def test_a_cache_of_python_2_is_read(tmp_path: Path) -> None:
    """Written out as cPickle 2.7 writes {'a': np.array([1, 255, 10], np.uint8)} in protocol 2."""
    raw = (
        b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x03\x85cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x03\x01\xff\ntbs."
    )
    path = tmp_path / "cache.pkl"
    path.write_bytes(raw)
    np.testing.assert_array_equal(safe_pickle.read(path)["a"], np.array([1, 255, 10], np.uint8))


class Runs:
    """Pickled, it asks whoever unpickles it to call `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, os.system, getattr, np.load, np.zeros])
def test_a_call_is_refused_and_not_run(function: Callable[..., Any], protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    argument = {eval: f"open({str(mark)!r}, 'w')", os.system: f"touch {mark}"}.get(function, str(mark))
    raw = pickle.dumps({"image_data": Runs(function, argument)}, protocol)
    message = refusal(tmp_path / "cache.pkl", raw)
    assert "it names '" in message
    assert function.__name__ in message
    assert "nothing in it is run" in message
    assert not mark.exists()


def test_the_call_refused_above_would_have_run(tmp_path: Path) -> None:
    """Python's own reader runs it, so the test above tests something."""
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(tmp_path / "mark"))))
    assert (tmp_path / "mark").exists()


def names(module: str, name: str) -> bytes:
    """Write a pickle of protocol 4 that calls module.name with no arguments."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + texts + b"\x93)R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "dtype.__class__"),
        ("builtins", "__import__"),
        ("_codecs", "lookup"),
        ("numpy ndarray", ""),
        ("safe_pickle", "read"),
    ],
)
def test_nested_and_neighbouring_names_are_refused(module: str, name: str, tmp_path: Path) -> None:
    assert "it names '" in refusal(tmp_path / "cache.pkl", names(module, name))


def test_a_name_put_together_from_the_memo_is_refused(tmp_path: Path) -> None:
    """`posix` and `system` come from the memo, where a reader of opcodes alone would not see them together."""
    raw = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x04true\x85R."
    assert [opcode.name for opcode, _, _ in pickletools.genops(raw)].count("STACK_GLOBAL") == 1
    assert "it names 'posix.system'" in refusal(tmp_path / "cache.pkl", raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"\x80\x04cnumpy\nndarray\n)}\x92.",  # NEWOBJ_EX
        b"(cnumpy\nndarray\no.",  # OBJ
        b"(inumpy\nndarray\n.",  # INST
        b"Pname\n.",  # PERSID
        b"\x80\x02U\x01aQ.",  # BINPERSID
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
    ],
)
def test_opcodes_that_make_objects_are_refused(raw: bytes, tmp_path: Path) -> None:
    assert ", which makes objects or calls code" in refusal(tmp_path / "cache.pkl", raw)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (np.array([{}, None], object), "an array of kind 'O8'"),
        (np.array(["2020-01-01"], "M8[D]"), "an array of kind 'M8'"),
        (np.zeros(2, [("a", "u1")]), "an array of kind 'V1'"),
        (OrderedDict(a=1), "it names 'collections.OrderedDict'"),
        ({1, 2}, "opcode EMPTY_SET"),
        (Path("a"), "it names 'pathlib."),
        (1j, "it names 'builtins.complex'"),
    ],
)
def test_other_kinds_are_refused(made: Any, why: str, tmp_path: Path) -> None:
    assert why in refusal(tmp_path / "cache.pkl", pickle.dumps(made, 4))


def array_pickle(shape: bytes, kind: bytes = b"u1", raw: bytes = b"U\x01a") -> bytes:
    """Write an array of any shape and kind, as no honest writer would."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape +
        b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R\x89" + raw + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.", "1,152,921,504,606,846,976 bytes announced"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.", "1,099,511,627,776 bytes announced"),
        (b"\x80\x02X" + struct.pack("<I", 4_000_000_000) + b"a.", "4,000,000,000 bytes announced"),
        (array_pickle(b"\x8a\x05\x00\x00\x00\x00\x10\x85"), "an array of shape (68719476736,) with 1 bytes"),
        (array_pickle(b"K\x01\x85", b"S9999"), "an array of shape (1,) with 1 bytes"),
        (array_pickle(b"K\x01\x85", b"S99999999999"), "an array of kind 'S99999999999'"),
        (array_pickle(b"J\xff\xff\xff\xff\x85"), "an array of unknown shape"),
        (b"I" + b"9" * 5000 + b"\n.", "digits"),
    ],
)
def test_lengths_that_the_file_does_not_hold_are_refused_before_room_is_made(
    raw: bytes, why: str, tmp_path: Path
) -> None:
    assert why in refusal(tmp_path / "cache.pkl", raw)


def test_an_array_written_by_hand_is_read(tmp_path: Path) -> None:
    """Else the refusals above could have any other reason."""
    (tmp_path / "cache.pkl").write_bytes(array_pickle(b"K\x01\x85"))
    np.testing.assert_array_equal(safe_pickle.read(tmp_path / "cache.pkl"), np.array([97], np.uint8))


def test_a_high_place_in_the_memo_needs_no_room(tmp_path: Path) -> None:
    """Python's own reader would make room for four billion entries."""
    (tmp_path / "cache.pkl").write_bytes(b"\x80\x02U\x01ar\xfe\xff\xff\xff.")
    assert safe_pickle.read(tmp_path / "cache.pkl") == "a"


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_cut_is_refused(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps(content(), protocol)
    for length in range(len(whole)):
        refusal(tmp_path / "cache.pkl", whole[:length])


def test_every_flipped_bit_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """No flip leads to another exception; what is read is checked by whoever asked for it."""
    whole = pickle.dumps(content(), 2)
    path = tmp_path / "cache.pkl"
    refused = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            safe_pickle.read(path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) // 4
    assert all("\n" not in message for message in refused)


def test_a_missing_pickle_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected a pickle of arrays"):
        safe_pickle.read(tmp_path / "cache.pkl")
