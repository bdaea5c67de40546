"""The pickle reader: NumPy arrays and plain values of every protocol are read; the rest is refused and not run.

The tests use only its interface: each writes a file and checks what reading it gives.
"""

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

from firstorder.data import safe_pickle
from firstorder.errors import UserError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def content() -> dict[str, Any]:
    """Return the content of a cache, and every other plain value."""
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


def write(path: Path, raw: bytes) -> None:
    """Write a new file, because overwriting takes 70 times as long on some file systems."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def refusal(path: Path, raw: bytes) -> str:
    """Read bytes that must be refused; return the message."""
    write(path, raw)
    with pytest.raises(UserError) as caught:
        safe_pickle.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: refused at byte ")
    return message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_values_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    path.write_bytes(pickle.dumps(content(), protocol))
    assert_same(safe_pickle.read(path), content())


def test_an_array_that_occurs_twice_is_one_array(tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    path.write_bytes(pickle.dumps(content()))
    read = safe_pickle.read(path)
    assert read["image_data"] is read["again"]


def test_a_cache_of_python_2_is_read(tmp_path: Path) -> None:
    """These are the bytes that cPickle 2.7 writes for {'a': np.array([1, 255, 10], np.uint8)} in protocol 2."""
    raw = (
        b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x03\x85cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x03\x01\xff\ntbs."
    )
    path = tmp_path / "cache.pkl"
    path.write_bytes(raw)
    np.testing.assert_array_equal(safe_pickle.read(path)["a"], np.array([1, 255, 10], np.uint8))


class Runs:
    """Unpickling this object calls `function(*arguments)`."""

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
    """Python's own reader runs it, so the test above is not vacuous."""
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


def test_a_name_composed_from_the_memo_is_refused(tmp_path: Path) -> None:
    """`posix` and `system` come from the memo, so a check of opcodes alone would not see them together."""
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


def announced(*, kind_of_array: bytes = b"cnumpy\nndarray\n", shape: bytes = b"K\x00\x85") -> bytes:
    """Return the start of a pickle of protocol 2: an array whose content follows."""
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + kind_of_array + shape + b"U\x01b\x87R"


def dtype(code: bytes = b"u1", state: bytes = b"") -> bytes:
    """Return a dtype with `state` for its BUILD."""
    return b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R" + (state and state + b"b")


def array_pickle(shape: bytes, kind: bytes = b"u1", raw: bytes = b"U\x01a") -> bytes:
    """Return an array whose shape and kind need not fit its bytes."""
    return announced() + b"(K\x01" + shape + dtype(kind) + b"\x89" + raw + b"tb."


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
def test_lengths_beyond_the_file_are_refused_before_memory_is_allocated(raw: bytes, why: str, tmp_path: Path) -> None:
    assert why in refusal(tmp_path / "cache.pkl", raw)


def test_an_array_written_by_hand_is_read(tmp_path: Path) -> None:
    """Otherwise the refusals above could have any other reason."""
    (tmp_path / "cache.pkl").write_bytes(array_pickle(b"K\x01\x85"))
    np.testing.assert_array_equal(safe_pickle.read(tmp_path / "cache.pkl"), np.array([97], np.uint8))


def test_a_high_index_in_the_memo_allocates_no_memory(tmp_path: Path) -> None:
    """`pickle.Unpickler` would allocate eight billion entries, which is 64 GB."""
    (tmp_path / "cache.pkl").write_bytes(b"\x80\x02U\x01ar\xfe\xff\xff\xff.")
    assert safe_pickle.read(tmp_path / "cache.pkl") == "a"


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_truncation_is_refused(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps(content(), protocol)
    for length in range(len(whole)):
        refusal(tmp_path / "cache.pkl", whole[:length])


def test_every_flipped_bit_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """No flip raises another exception. The caller checks the values that are read."""
    whole = pickle.dumps(content(), 2)
    path = tmp_path / "cache.pkl"
    refused = []
    for place in range(len(whole)):
        write(path, whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            safe_pickle.read(path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) // 4
    assert all("\n" not in message for message in refused)


def test_a_missing_pickle_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected a pickle of arrays"):
        safe_pickle.read(tmp_path / "cache.pkl")


# --- Allowed names, called with other arguments than NumPy's ---

HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 1 << 40
ENCODE = b"\x80\x02c_codecs\nencode\n"
SCALAR = b"\x80\x02cnumpy.core.multiarray\nscalar\n"
FROMBUFFER = b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(C\x01a"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x80\x02cnumpy\nndarray\n" + HUGE + b"\x85\x85R.", "a call of numpy.ndarray"),
        (announced(shape=HUGE + b"\x85") + b".", "an array of unknown form"),
        (announced(shape=HUGE + b"K\x00\x86") + b".", "an array of unknown form"),
        (announced(kind_of_array=b"cnumpy\nmatrix\n") + b".", "it names 'numpy.matrix'"),
        (announced(kind_of_array=b"cnumpy\ndtype\n") + b".", "an array of unknown form"),
        (announced(kind_of_array=b"N") + b".", "an array of unknown form"),
        (announced() + b".", "part of an array in place of a value"),
        (announced() + b"}b.", "expected"),
        (announced() + b"(K\x01K\x01\x85U\x02u1\x89U\x01atb.", "an array of unknown form"),
        (announced() + b"(K\x01K\x01\x85" + dtype() + b"\x89]Natb.", "a list where a text is expected"),
        (announced() + b"(K\x01K\x01\x85" + dtype() + b"\x89X\x02\x00\x00\x00\xc4\x80tb.", "'latin-1' codec"),
        (array_pickle(HUGE + b"K\x00\x86", raw=b"U\x00"), "an array of unknown shape"),
        (array_pickle(b"K\x00" + HUGE + b"\x86", raw=b"U\x00"), "an array of unknown shape"),
        (array_pickle(b"G?\xf0\x00\x00\x00\x00\x00\x00\x85"), "an array of unknown shape"),
        (array_pickle(b"\x88\x85"), "an array of unknown shape"),
        (array_pickle(b"(" + b"K\x01" * 100 + b"t"), "maximum"),
        (array_pickle(b"K\x01\x85", b"O"), "an array of kind 'O'"),
        (array_pickle(b"K\x01\x85", b"|O8"), "an array of kind '|O8'"),
        (array_pickle(b"K\x01\x85", b"u1,O"), "an array of kind 'u1,O'"),
        (array_pickle(b"K\x01\x85", b"(99,)u1"), "an array of kind '(99,)u1'"),
        (array_pickle(b"K\x01\x85", b"V1"), "an array of kind 'V1'"),
        (array_pickle(b"K\x01\x85", b"f3"), "f3"),
        (b"\x80\x02" + dtype() + b".", "part of an array in place of a value"),
        (b"\x80\x02" + dtype(state=b"(K\x03U\x01<U\x01aNNt") + b".", "an array of records"),
        (b"\x80\x02" + dtype(state=b"(K\x03U\x01<NN}t") + b".", "an array of records"),
        (b"\x80\x02" + dtype(state=b"(K\x03U\x02>ONNNt") + b".", "an unknown byte order"),
        (b"\x80\x02" + dtype(state=b"(K\x03]NNNt") + b".", "a list where a text is expected"),
        (b"\x80\x02" + dtype(state=b"K\x03\x85") + b".", "not enough values"),
        (b"\x80\x02cnumpy\ndtype\ncnumpy\nndarray\n\x85R.", "where a text is expected"),
        (b"\x80\x02cnumpy\ndtype\n)R.", "argument"),
        (b"\x80\x02cnumpy\ndtype\n}R.", "argument"),
        (b"\x80\x02cnumpy\ndtype\n.", "part of an array in place of a value"),
        (b"\x80\x02]cnumpy\nndarray\na.", "part of an array in place of a value"),
        (ENCODE + b"U\x01aU\x03zip\x86R.", "bytes in another encoding than latin1"),
        (ENCODE + b"U\x01aU\x05rot13\x86R.", "bytes in another encoding than latin1"),
        (ENCODE + b"U\x01a]\x86R.", "bytes in another encoding than latin1"),
        (ENCODE + b"U\x01aU\x06latin1U\x06ignore\x87R.", "argument"),
        (ENCODE + b"NU\x06latin1\x86R.", "a NoneType where a text is expected"),
        (SCALAR + dtype(b"O8") + b"U\x08aaaaaaaa\x86R.", "an array of kind 'O8'"),
        (SCALAR + dtype(b"i4") + b"U\x01a\x86R.", "an array of shape () with 1 bytes"),
        (SCALAR + dtype(b"U1") + b"U\x04\xff\xff\xff\xff\x86R.", "character"),
        (SCALAR + b"U\x02i4U\x04aaaa\x86R.", "an array of unknown form"),
        (FROMBUFFER + dtype() + HUGE + b"\x85U\x01CtR.", "an array of shape (1099511627776,) with 1 bytes"),
        (FROMBUFFER + dtype() + b"K\x01\x85U\x01KtR.", "an array of unknown form"),
        (FROMBUFFER + dtype(b"O8") + b"K\x01\x85U\x01CtR.", "an array of kind 'O8'"),
    ],
)  # fmt: skip
def test_names_of_numpy_with_odd_arguments_are_refused(raw: bytes, why: str, tmp_path: Path) -> None:
    assert why in refusal(tmp_path / "cache.pkl", raw)


@pytest.mark.parametrize("name", [b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"])
@pytest.mark.parametrize(
    "state", [b"}U\x01aK\x01s", b"}U\x08__code__K\x01s", b"N}U\x0c__defaults__K\x01\x85s\x86", b"N", b"}", b")"]
)
def test_the_function_behind_a_name_cannot_be_changed(name: bytes, state: bytes, tmp_path: Path) -> None:
    """BUILD sets attributes, and those of a function here would remain after reading."""
    assert "a state for something that is no array" in refusal(
        tmp_path / "cache.pkl", b"\x80\x02" + name + state + b"b."
    )
    path = tmp_path / "whole.pkl"
    path.write_bytes(pickle.dumps(content(), 2))
    assert_same(safe_pickle.read(path), content())


@pytest.mark.parametrize("made", [b"]", b"}", b"U\x01a", b"K\x01", b"N", b")"])
def test_a_plain_value_accepts_no_state(made: bytes, tmp_path: Path) -> None:
    raw = b"\x80\x02" + made + b"}U\x01aK\x01sb."
    assert "a state for something that is no array" in refusal(tmp_path / "cache.pkl", raw)


# --- Files that would take too much memory or time ---


def nested(depth: int, *, twice: bool) -> bytes:
    """Return nested tuples; `twice` puts each tuple into the next one two times."""
    return b"U\x01a" + (b"q\x00h\x00\x86" if twice else b"\x85") * depth


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("form", [b"}%bNs.", b"}(%bNu.", b"(%bNd."])
def test_a_key_whose_hash_would_hang_or_crash_is_refused(form: bytes, twice: bool, tmp_path: Path) -> None:
    """Python hashes nested tuples without a limit: 2 ** 100 steps here, or a stack overflow."""
    raw = b"\x80\x02" + form % nested(100 if twice else 200_000, twice=twice)
    assert "a dict's key of type tuple, where a text is expected" in refusal(tmp_path / "cache.pkl", raw)


@pytest.mark.parametrize("key", [b"K\x01", b"N", b")", b"G" + bytes(8), b"\x88", b"c_codecs\nencode\n", b"]", b"}"])
def test_a_key_that_is_not_text_is_refused(key: bytes, tmp_path: Path) -> None:
    assert "where a text is expected" in refusal(tmp_path / "cache.pkl", b"\x80\x02}" + key + b"K\x01s.")


def test_bytes_keys_are_read(tmp_path: Path) -> None:
    (tmp_path / "cache.pkl").write_bytes(pickle.dumps({b"image_data": 1}, 3))
    assert safe_pickle.read(tmp_path / "cache.pkl") == {b"image_data": 1}


def test_deep_nesting_is_read(tmp_path: Path) -> None:
    (tmp_path / "cache.pkl").write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    value, depth = safe_pickle.read(tmp_path / "cache.pkl"), 1
    while value:
        (value,), depth = value, depth + 1
    assert depth == 100_000


def test_a_text_is_not_converted_to_bytes_again_and_again(tmp_path: Path) -> None:
    """Otherwise a file of 1 MB would become a list of 300 MB."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
    calls = b"h\x00h\x01h\x02\x86Ra" * 300
    raw = ENCODE + b"q\x00" + text + b"U\x06latin1q\x02]" + calls + b"."
    assert "more data than the file has bytes" in refusal(tmp_path / "cache.pkl", raw)


def test_a_file_of_more_steps_than_any_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the bytes would become a dict of 64."""
    monkeypatch.setattr(safe_pickle, "MOST_READS", 1000)
    assert "more than 1,000 values and steps" in refusal(tmp_path / "cache.pkl", b"}" * 1001 + b".")
    assert "more than 1,000 values and steps" in refusal(tmp_path / "cache.pkl", b"I1\n" * 501 + b".")


def test_the_step_limit_allows_a_whole_cache_of_numpy_numbers(tmp_path: Path) -> None:
    """The most steps that an image of a valid file takes: its index is a NumPy number, in an old protocol."""
    indices = [np.int64(index) for index in range(1000)]
    (tmp_path / "cache.pkl").write_bytes(pickle.dumps(indices, 1))
    assert safe_pickle.read(tmp_path / "cache.pkl") == list(range(1000))
    opcodes = list(pickletools.genops((tmp_path / "cache.pkl").read_bytes()))
    assert 3 * len(opcodes) * 38.4 < safe_pickle.MOST_READS


def test_a_file_that_is_too_large_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    with path.open("wb") as file:
        file.truncate(safe_pickle.LARGEST_BYTES + 1)  # takes no room on the disk
    with pytest.raises(
        UserError, match=r"has 2,147,483,649 bytes, expected a pickle of at most 2,147,483,648: get the"
    ):
        safe_pickle.read(path)


def test_a_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\); expected a pickle of arrays"):
        safe_pickle.read(tmp_path)


@pytest.mark.parametrize("length", [0, 3, 1 << 62])
def test_the_length_of_a_frame_does_not_matter(length: int, tmp_path: Path) -> None:
    (tmp_path / "cache.pkl").write_bytes(b"\x80\x04\x95" + struct.pack("<Q", length) + b"]K\x01a.")
    assert safe_pickle.read(tmp_path / "cache.pkl") == [1]


def test_a_long_reason_is_shortened_and_warnings_of_python_are_not_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path / "cache.pkl", b"F" + b"\xff" * 100_000 + b"\n.")
    assert "could not convert string to float" in message
    assert len(message) < 600
    (tmp_path / "cache.pkl").write_bytes(b"S'\\d'\n.")
    assert safe_pickle.read(tmp_path / "cache.pkl") == "\\d"


# --- Random damage ---

PLAIN = (str, bytes, int, float, np.ndarray, type(None))


def assert_plain(value: Any) -> None:
    """Check that every part is a plain value or an array of numbers or texts."""
    if isinstance(value, dict):
        assert all(type(key) in (str, bytes) for key in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)
    elif isinstance(value, np.ndarray):
        assert type(value) is np.ndarray
        assert value.dtype.kind in "biufSU"
    else:
        assert isinstance(value, PLAIN)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_random_damage_is_read_or_refused_in_one_line(protocol: int, tmp_path: Path) -> None:
    """Bytes are overwritten, removed, inserted and cut off. The result is always values or a one-line error."""
    whole, path = pickle.dumps(content(), protocol), tmp_path / "cache.pkl"
    rng, refused = np.random.default_rng(protocol), []
    for _ in range(700):
        raw = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            place, length = int(rng.integers(len(raw))), int(rng.integers(4))
            raw[place : place + length] = rng.bytes(int(rng.integers(4)))
        if rng.random() < 0.2:
            del raw[int(rng.integers(len(raw))) :]
        write(path, raw)
        try:
            assert_plain(safe_pickle.read(path))
        except UserError as error:
            refused.append(str(error))
    assert 100 < len(refused) < 700
    assert all("\n" not in message for message in refused)
