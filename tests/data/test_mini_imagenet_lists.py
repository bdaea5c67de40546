"""Lists: which lines and files are read, and that doubles and other files shift no rank."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from firstorder.data.census import warnings_of
from firstorder.data.mini_imagenet_lists import read_names
from firstorder.errors import UserError
from tests.data.test_mini_imagenet import (
    CLASSES,
    EXPECTED,
    as_file,
    as_folder,
    as_zip,
    draw,
    ilsvrc,
    message_of,
    pack_of,
    ravis_name,
    rows,
    write_list,
)

NAME, OTHER = ravis_name("n01532829", 1), ravis_name("n01532829", 2)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_names(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("heading", ["", "filename,label\n", "\n\nfilename, label\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_heading_is_skipped_and_nothing_else(heading: str, mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(mark + f"{heading}{NAME},x\r\n{OTHER},x\n".encode())
    assert read_names(tmp_path / "a.csv") == {"n01532829": [NAME, OTHER]}


@pytest.mark.parametrize("first", ["filename", "name,class", f"./{NAME},x", f"images/{NAME},x", "Filename,Label", " "])
def test_another_first_line_is_an_image_that_is_not_there(first: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\n{NAME},x\n")
    message = refusal(tmp_path / "a.csv")
    assert f"{tmp_path / 'a.csv'}: expected a name like" in message
    assert message.endswith("correct that line")


def test_each_list_of_a_folder_may_have_a_mark_and_a_heading(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"filename,label\n{NAME},x\n", encoding="utf-8-sig")
    (tmp_path / "b.csv").write_text(f"{OTHER},x\n", encoding="utf-8-sig")
    assert read_names(tmp_path) == {"n01532829": [NAME, OTHER]}


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{NAME},x\n", encoding="utf-16")
    assert "expected a csv of file names in UTF-8" in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_called_so(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{NAME},x\n", encoding=encoding)
    assert "in UTF-16, not in UTF-8" in refusal(tmp_path / "a.csv")


def test_a_label_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{OTHER},n01532829\n{NAME}, n01558993\n")
    assert f"{NAME!r} is listed under class n01558993" in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "place", ["._a.csv", ".ipynb_checkpoints/a-checkpoint.csv", "@eaDir/a.csv", "__MACOSX/._a.csv", "b/.a.csv"]
)
def test_hidden_files_beside_the_lists_are_passed_over(place: str, tmp_path: Path) -> None:
    as_folder({"a.csv": f"{NAME},x\n".encode(), place: b"\0\5\x16\7\xff"}, tmp_path)
    assert read_names(tmp_path) == {"n01532829": [NAME]}


def test_a_list_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert "is a FIFO, not a file" in refusal(tmp_path / "a.csv")
    (tmp_path / "b.csv").symlink_to("/dev/zero")
    assert "is a device, not a file" in refusal(tmp_path / "b.csv")


# --- Ranks in ILSVRC-2012 ---

RANKED = [ravis_name(class_id, rank) for class_id in CLASSES for rank in (1, 2, 3)]


def class_folders() -> dict[str, bytes]:
    return {f"{class_id}/{name}": content for class_id in CLASSES for name, content in ilsvrc()[class_id].items()}


@pytest.mark.parametrize(
    "extra",
    [
        {"Annotations/n01532829/n01532829_1.xml": b"<xml>"},
        {"n01532829/n01532829_1.xml": b"<xml>", "n01532829/n01532829_2.txt": b"x", "n01532829/n01532829_3": b"x"},
        {"n01532829/._n01532829_1.JPEG": b"x", "n01532829/@eaDir/n01532829_1.JPEG": b"x"},
        {"n01532829/Thumbs.db": b"x", "n01532829/.ipynb_checkpoints/n01532829_1-checkpoint.JPEG": b"x"},
        {f"copy/{name}": content for name, content in class_folders().items()},
        {"val/ILSVRC2012_val_00000001.JPEG": as_file(draw("n01532829", 9)), "test/a.JPEG": b"x"},
    ],
    ids=["annotations", "other files", "thumbnails", "Windows and Jupyter", "the whole set again", "val and test"],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_other_files_and_doubles_shift_no_rank(extra: dict[str, bytes], form: str, tmp_path: Path) -> None:
    files = {**class_folders(), **extra}
    source = as_folder(files, tmp_path / "s") if form == "folder" else as_zip(files, tmp_path / "s.zip")
    pack, _ = pack_of(source, names=write_list(tmp_path / "names.csv", RANKED))
    np.testing.assert_array_equal(pack.images, EXPECTED)


@pytest.mark.parametrize("name", ["copy/n01532829/n01532829_5.JPEG", "n01532829/n01532829_5.png"])
@pytest.mark.parametrize("by", ["rank", "name"])
def test_a_listed_image_with_two_contents_is_refused(name: str, by: str, tmp_path: Path) -> None:
    if by == "name" and name.endswith(".png"):
        name = "copy/again/n01532829/n01532829_5.JPEG"
    source = as_folder({**class_folders(), name: as_file(draw("n01532829", 99))}, tmp_path / "s")
    listed = [ravis_name("n01532829", 1)] if by == "rank" else ["n01532829_5.JPEG"]
    message = message_of(source, names=write_list(tmp_path / "names.csv", listed))
    assert f"the listed image {listed[0]!r} is there twice with different content" in message
    assert "take one of them out, or name with --source" in message


def test_images_found_by_rank_are_told_with_the_number_of_files_that_were_ranked(tmp_path: Path) -> None:
    """A class without a file gives other images, and nothing else could tell."""
    files = class_folders()
    del files["n01532829/n01532829_5.JPEG"]
    source = as_folder(files, tmp_path / "s")
    pack, census = pack_of(source, names=write_list(tmp_path / "names.csv", RANKED))
    assert not np.array_equal(pack.images, EXPECTED)
    assert rows(census, "rank")[0][1:3] == ("n01532829", 3)
    (warning,) = warnings_of(census)
    assert warning.endswith("there are: n01532829 3, n01558993 4, n01855672 4, n01930112 4")
    by_name = [f"{class_id}_5.JPEG" for class_id in CLASSES if class_id != "n01532829"] + ["n01532829_18.JPEG"]
    assert warnings_of(pack_of(source, names=write_list(tmp_path / "names.csv", by_name))[1]) == []
