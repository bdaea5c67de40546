"""Archives, lists and pickles that two readers would read differently are refused, or what is left out is named."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder.__main__ import main
from firstorder.data import entries
from firstorder.data.archives import members
from firstorder.data.census import warnings_of
from firstorder.data.mini_imagenet_caches import NAMES as CACHES
from firstorder.data.mini_imagenet_lists import not_lists, read_names
from firstorder.errors import UserError
from tests.conftest import TINY_PARAMS, write_params
from tests.data.test_mini_imagenet import (
    CLASSES,
    EXPECTED,
    FORMS,
    as_caches,
    as_file,
    as_folder,
    as_tar,
    as_zip,
    draw,
    made_up,
    message_of,
    pack_of,
    ravis_name,
)

FOLDER = "train/n01558993"
THUMBNAIL = as_file(draw("n01558993", 8, side=20))


def with_backslashes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.replace("/", "\\"): content for name, content in files.items()}


def backslash_zip(files: dict[str, bytes], at: Path) -> Path:
    with zipfile.ZipFile(at, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, content)
    return at


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
@pytest.mark.parametrize("kept", ["@eaDir", "thumbnails", "__MACOSX", ".cache"])
def test_thumbnails_behind_backslashes_are_no_images(form: str, kept: str, tmp_path: Path) -> None:
    """A folder has such names where a tool unpacked a zip of Windows as it stands."""
    files = with_backslashes({**made_up(), f"{FOLDER}/{kept}/t.png": THUMBNAIL})
    if form == "folder":
        source = as_folder(files, tmp_path / "copy")
    else:
        source = (backslash_zip if form == "zip" else as_tar)(files, tmp_path / f"a.{form}")
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)


@pytest.mark.parametrize("name", ["..\\{}", "train\\..\\..\\{}", "\\{}", "C:\\{}", "../{}"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_leaves_the_archive_is_refused(name: str, form: str, tmp_path: Path) -> None:
    files = {**made_up(), name.format("n01558993\\q.png"): THUMBNAIL}
    source = (backslash_zip if form == "zip" else as_tar)(files, tmp_path / f"a.{form}")
    assert "its name leaves the folder" in message_of(source)


def test_one_file_with_both_kinds_of_separator_comes_twice(tmp_path: Path) -> None:
    extra = f"{FOLDER}/{ravis_name('n01558993', 1)}"
    files = {**made_up(), **with_backslashes({extra: THUMBNAIL})}
    assert "comes twice" in message_of(backslash_zip(files, tmp_path / "a.zip"))


def test_omniglots_archives_split_backslashes_too(tmp_path: Path) -> None:
    path = backslash_zip({"top\\a.PNG": b"1", "top\\b.png": b"2", "top\\": b""}, tmp_path / "a.zip")
    assert [name for name, _ in members(path, ".png")] == ["top/a.PNG", "top/b.png"]


# --- Tars ---


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, pax: dict[str, str] | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.pax_headers = kind, max(size, 0), pax or {}
    if pax:
        return info.tobuf(tarfile.PAX_FORMAT)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = b"\xff" + (size % 256**11).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax_block(kind: bytes, content: bytes) -> bytes:
    return header("x", kind, len(content)) + content + bytes(-len(content) % 512)


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
BAD_HEADERS = {
    "negative by pax": header("n01558993/z.png", pax={"size": "-1536"}),
    "negative by base 256": header("n01558993/z.png", size=-512),
    "negative, of no known type": header("z", b"Z", -1024),
    "negative long name": header("z", tarfile.GNUTYPE_LONGNAME, -512),
    "negative pax header": header("z", tarfile.XHDTYPE, -512),
    "negative for all by pax": pax_block(tarfile.XGLTYPE, b"14 size=-1536\n") + header("n01558993/z.png"),
    "huge by pax": header("n01558993/z.png", pax={"size": str(2**80)}),
    "huge by base 256": header("n01558993/z.png", size=2**60),
    "a map without end": header("n01558993/z.png", pax={**SPARSE}) + b"9" * 512,
    "an old map without end": header("n01558993/z.png", tarfile.GNUTYPE_SPARSE),
    "a map of nothing": header("n01558993/z.png", pax={"GNU.sparse.map": "5,-3", "GNU.sparse.size": "9"}),
    "digits that Python searches for ever": pax_block(tarfile.XHDTYPE, b"1" * 60_000) + header("z"),
    "a sparse name": header("z", pax={"GNU.sparse.name": "n01558993/z.png"}),
    "a malformed record": pax_block(tarfile.XHDTYPE, b"99 path=a.png\n") + header("z"),
    "a record behind a malformed one": pax_block(tarfile.XHDTYPE, b"x\n14 path=a.png\n") + header("z"),
    "an erased header": bytes(512) + header("n01558993/z.png"),
    "an erased part": bytes(3 << 20) + header("n01558993/z.png"),
    "a wrong checksum": b"\1" + header("n01558993/z.png")[1:],
    "half a header": header("n01558993/z.png")[:300],
    "no end": b"",
}


@pytest.mark.parametrize("outside", ["tar", "gz"])
@pytest.mark.parametrize("bad", BAD_HEADERS)
def test_a_header_that_cannot_be_ends_in_one_line(bad: str, outside: str, tmp_path: Path) -> None:
    """Whatever follows the header; Python alone would read for ever, or end the archive here without a word."""
    content = tar_of(made_up())
    end = len(content.rstrip(b"\0")) + 511 & -512
    after = b"" if bad in ("half a header", "no end") else bytes(1024)
    content = content[:end] + BAD_HEADERS[bad] + after
    source = tmp_path / f"a.{outside}"
    source.write_bytes(content if outside == "tar" else gzip.compress(content))
    assert f"{source}: expected a folder, a whole zip or a whole tar, found: " in message_of(source)


def test_long_names_and_headers_before_members_are_read(tmp_path: Path) -> None:
    deep = "d" * 90 + "/" + "e" * 200
    for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz", format=format_, pax_headers={"comment": "x" * 3000}) as archive:
            for name, content in made_up().items():
                info = tarfile.TarInfo(f"{deep}/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        np.testing.assert_array_equal(pack_of(path)[0].images, EXPECTED)


def test_zeros_without_end_behind_a_tar_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_ZEROS", 2 << 20)
    (tmp_path / "a.tar").write_bytes(tar_of(made_up()) + bytes(1 << 20))
    np.testing.assert_array_equal(pack_of(tmp_path / "a.tar")[0].images, EXPECTED)
    (tmp_path / "a.tar").write_bytes(tar_of(made_up()) + bytes(3 << 20))
    assert "more follows its end" in message_of(tmp_path / "a.tar")


def test_a_colon_in_the_name_of_a_file_in_a_folder_is_no_drive(tmp_path: Path) -> None:
    np.testing.assert_array_equal(pack_of(as_folder({**made_up(), "n:notes": b"x"}, tmp_path))[0].images, EXPECTED)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_two_archives_in_one_file_are_refused(form: str, tmp_path: Path) -> None:
    """Of two tars, Python reads the first; of two zips, the second."""
    make = as_tar if form == "tar" else as_zip
    extra = {f"{FOLDER}/{ravis_name('n01558993', 9)}": THUMBNAIL}
    first, second = make(made_up(), tmp_path / f"a.{form}"), make({**made_up(), **extra}, tmp_path / f"b.{form}")
    joined = tmp_path / f"c.{form}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert "as if two archives had been joined" in message_of(joined)


@pytest.mark.parametrize("more", [b"x", tar_of({"n01532829/more.png": THUMBNAIL}), b"PK\5\6" + bytes(17)])
def test_more_behind_a_zip_is_refused(more: bytes, tmp_path: Path) -> None:
    source = as_zip(made_up(), tmp_path / "a.zip")
    source.write_bytes(source.read_bytes() + more)
    assert message_of(source).startswith(f"{source}: expected a folder, a whole zip or a whole tar, found: ")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inside = as_zip({"n01558993/q.png": THUMBNAIL}, tmp_path / "small.zip").read_bytes()
    pack, census = pack_of(as_tar({**made_up(), "small.zip": inside}, tmp_path / "a.tar"))
    np.testing.assert_array_equal(pack.images, EXPECTED)
    assert "small.zip" in warnings_of(census)[0]


def test_a_zip_with_a_comment_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(as_zip(made_up(), tmp_path / "a.zip"), "a") as archive:
        archive.comment = b"as I packed it"
    np.testing.assert_array_equal(pack_of(tmp_path / "a.zip")[0].images, EXPECTED)


# --- Endings, and several forms at once ---


@pytest.mark.parametrize("name", ["TRAIN.CSV", "train.Csv", "more/train.csv"])
def test_a_list_is_read_whatever_the_case_of_its_ending(name: str, tmp_path: Path) -> None:
    as_folder({"val.csv": b"n0155899300000001.png,x\n", name: b"n0153282900000002.png,x\n"}, tmp_path / "L")
    assert read_names(tmp_path / "L").keys() == {"n01532829", "n01558993"}


def test_files_beside_lists_are_named(tmp_path: Path) -> None:
    lines = "".join(f"{ravis_name(class_id, 1)},{class_id}\n" for class_id in CLASSES)
    lists = as_folder({"all.csv": lines.encode(), "rest.txt": b"n0155899300000002.png", ".x": b""}, tmp_path / "L")
    assert not_lists(lists) == [str(lists / "rest.txt")]
    _, census = pack_of(as_folder(made_up(), tmp_path / "copy"), names=lists)
    assert f"1 archives, pickles or files beside lists are not read, the first: {lists}/rest.txt" in warnings_of(census)


def test_pickles_are_found_in_capitals(tmp_path: Path) -> None:
    source = as_caches(tmp_path / "c")
    (source / CACHES[0]).rename(source / CACHES[0].upper())
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)
    np.testing.assert_array_equal(pack_of(source / CACHES[0].upper())[0].images, EXPECTED)
    (source / CACHES[0]).write_bytes(b"another")
    assert "expected one of them" in message_of(source)


def test_tars_of_classes_and_folders_are_found_in_capitals(tmp_path: Path) -> None:
    lines = "".join(f"{ravis_name(class_id, n)}\n" for class_id in CLASSES for n in (1, 2, 3))
    (tmp_path / "l.csv").write_text(lines)
    files = {name.replace("/n0", "/N0", 1): content for name, content in made_up().items() if "n01558993" not in name}
    source = as_folder(files, tmp_path / "copy")
    inside = {name.rpartition("/")[2]: content for name, content in made_up().items() if "n01558993" in name}
    as_tar(inside, tmp_path / "n.tar").rename(source / "N01558993.TAR")
    np.testing.assert_array_equal(pack_of(source, names=tmp_path / "l.csv")[0].images, EXPECTED)


@pytest.mark.parametrize("beside", ["images/n01532829/a.png", "n0155899300000009.JPG", "n01532829/a.tar"])
def test_pickles_beside_images_are_refused_and_one_pickle_is_what_it_says(beside: str, tmp_path: Path) -> None:
    source = as_folder({beside: THUMBNAIL}, as_caches(tmp_path / "c"))
    assert f"has the three cache pickles and also images in files, such as {beside}" in message_of(source)
    np.testing.assert_array_equal(pack_of(source / CACHES[1])[0].images, EXPECTED)


@pytest.mark.parametrize("form", [*FORMS, "pickles"])
@pytest.mark.parametrize("name", ["more.zip", "sub/MORE.TAR.GZ", "mini-imagenet-cache-train.pkl", "x.npz"])
def test_what_may_hold_more_images_is_named(form: str, name: str, tmp_path: Path) -> None:
    if form == "pickles":
        name = f"sub/{name}"
        source = as_folder({name: b"x"}, as_caches(tmp_path / "c"))
    elif name in CACHES and form == "folder":
        name = f"sub/{name}"
        source = FORMS[form]({**made_up(), name: b"x"}, tmp_path)
    else:
        source = FORMS[form]({**made_up(), name: b"x"}, tmp_path)
    pack, census = pack_of(source)
    np.testing.assert_array_equal(pack.images, EXPECTED)
    said = f"1 archives, pickles or files beside lists are not read, the first: {source}: {name}"
    assert said in warnings_of(census)


def test_a_source_with_nothing_but_archives_says_so(tmp_path: Path) -> None:
    as_zip(made_up(), tmp_path / "a.zip")
    assert "a.zip: archives and pickles in a folder or archive are not read" in message_of(tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_images_in_subfolders_of_a_class_are_named(form: str, tmp_path: Path) -> None:
    more = {f"{FOLDER}/flip/{ravis_name('n01558993', n)[:-4]}f.png": THUMBNAIL for n in (1, 2)}
    _, census = pack_of(FORMS[form]({**made_up(), **more}, tmp_path))
    said = [line for line in warnings_of(census) if "subfolders of their class" in line]
    assert len(said) == 1
    assert said[0].startswith("2 images are in subfolders of their class and packed beside the class's own images")
    assert f"{FOLDER}/flip/" in said[0]


def test_a_class_with_all_images_in_one_subfolder_is_no_news(tmp_path: Path) -> None:
    files = {f"{Path(name).parent}/images/{Path(name).name}": content for name, content in made_up().items()}
    assert warnings_of(pack_of(as_folder(files, tmp_path))[1]) == []


def test_a_link_that_leads_nowhere_matters_only_where_images_are(tmp_path: Path) -> None:
    source = as_folder(made_up(), tmp_path)
    (source / "README.txt").symlink_to("nowhere")
    (source / "loop").symlink_to("loop")
    np.testing.assert_array_equal(pack_of(source)[0].images, EXPECTED)
    (source / FOLDER / "more.png").symlink_to("nowhere")
    assert "more.png: is a link or device, not a file" in message_of(source)


# --- Classes ---


@pytest.mark.parametrize(
    "label",
    [
        *("n01558993", "N01558993", " N01558993 ", "train/n01558993", "n01558993 goldfish", "n0155899300000001.jpg"),
        *("x,N01558993", "\uff4e01558993", "n\uff10\uff11\uff15\uff15\uff18\uff19\uff19\uff13", "n0155\u200b8993"),
    ],
)
def test_a_label_of_another_class_is_refused_however_it_is_written(label: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"n0153282900000001.jpg,{label}\n", encoding="utf-8")
    with pytest.raises(UserError, match="is listed under class n01558993; correct that line"):
        read_names(tmp_path / "a.csv")


@pytest.mark.parametrize("label", ["n01532829", "N01532829", "house finch", "10", "", "dog_n0153282900000001"])
def test_other_labels_are_taken(label: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"n0153282900000001.jpg,{label}\n")
    assert read_names(tmp_path / "a.csv") == {"n01532829": ["n0153282900000001.jpg"]}


@pytest.mark.parametrize(
    "name",
    [
        *("N01558993/n0153282900000009.png", "n01558993/N0153282900000009.png", "n01532829/n01558993/a.png"),
        *("n01532829/n01558993-robin/a.png", "N01532829/sub/n0155899300000009.png"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_path_that_names_two_classes_is_refused(name: str, form: str, tmp_path: Path) -> None:
    message = message_of(FORMS[form]({**made_up(), name: THUMBNAIL}, tmp_path))
    assert re.search(r"class n\d+, (its|another)", message)
    assert message.endswith("; move it")


def test_an_image_of_another_class_in_the_tar_of_a_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("n0153282900000001.png\n")
    as_tar({"n01558993_7.png": THUMBNAIL}, tmp_path / "n.tar").rename(tmp_path / "n01532829.tar")
    assert "its name says class n01558993" in message_of(tmp_path, names=tmp_path / "l.csv")


# --- Keys twice ---


def twice(key: Any, other: Any) -> bytes:
    """Write a pickle of a dict with two keys, one after the other, that pickle.dumps could not if they are equal."""
    first, second = (pickle.dumps(value, 2)[2:-1] for value in (key, other))
    return b"\x80\x02}(" + re.sub(rb"q\x00", b"", first) + b"K\1" + re.sub(rb"q\x00", b"", second) + b"K\2u."


@pytest.mark.parametrize(("key", "other"), [("image_data", b"image_data"), ("class_dict", "class_dict")])
def test_a_pickle_with_a_key_twice_is_refused(key: Any, other: Any, tmp_path: Path) -> None:
    source = as_caches(tmp_path / "c")
    (source / CACHES[0]).write_bytes(twice(key, other))
    assert "twice" in message_of(source)


def test_a_class_of_a_pickle_as_text_and_as_bytes_is_refused(tmp_path: Path) -> None:
    def change(split: str, cache: dict[str, Any]) -> None:
        if split == "train":
            cache["class_dict"][b"n01558993"] = cache["class_dict"]["n01558993"]

    assert "has the key 'n01558993' twice, as text and as bytes" in message_of(as_caches(tmp_path / "c", change))


# --- What is printed ---


def test_names_are_printed_with_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    from firstorder.data import mini_imagenet

    whole = mini_imagenet.make_pack
    monkeypatch.setattr(mini_imagenet, "make_pack", lambda *given, **named: whole(*given, splits=CLASSES, **named))
    datasets = {**TINY_PARAMS["datasets"], "mini-imagenet": {"source": "mini_imagenet"}}
    write_params(tmp_path, {**TINY_PARAMS, "datasets": datasets})
    forged = "evil\nfirstorder: all is fine\x1b[31m\u202e.bin"
    as_folder({**made_up(), f"{FOLDER}/{forged}": b"x", f"{forged}.zip": b"x"}, tmp_path / "copy")
    assert main(["data", "mini-imagenet", "--source", "copy"]) == 0
    shown = "evil\\nfirstorder: all is fine\\x1b[31m\\u202e.bin"
    error = capsys.readouterr().err
    assert sum(shown in line for line in error.splitlines()) == 2
    assert not any(line.startswith("firstorder: ") for line in error.splitlines())
    assert shown in (tmp_path / "data/mini-imagenet.census.csv").read_text()
    (tmp_path / "copy" / FOLDER / f"{forged}.png").write_bytes(b"x")
    assert main(["data", "mini-imagenet", "--source", "copy"]) == 2
    assert f"{FOLDER}/{shown}.png: truncated or not an image" in capsys.readouterr().err
