"""One's own images: class folders of any depth and form become a pack; what lies or is unclear is refused in a line."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.__main__ import main
from firstorder.data import folder, packs
from firstorder.data.census import warnings_of
from firstorder.errors import UserError
from firstorder.settings import DatasetSettings, checks
from tests.conftest import TINY_PARAMS, TRAINING, edit, write_params

Files = dict[str, bytes]
GREY = DatasetSettings(source="folder", size=16, channels=1, resize="bilinear", meta_train_classes=3)
COLOUR = replace(GREY, channels=3)


def picture(number: int, size: tuple[int, int] = (20, 24), mode: str = "L", kind: str = "PNG") -> bytes:
    """Return an image file of noise that depends on `number` only."""
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise, mode).save(file, kind)
    return file.getvalue()


def some_files(classes: int = 5, images: int = 3) -> Files:
    return {
        f"group{number % 2}/class{number}/{image}.png": picture(10 * number + image)
        for number in range(classes)
        for image in range(images)
    }


def put(files: Files, root: Path) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def as_zip(files: Files, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def as_tar(files: Files, path: Path, top: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def refused(source: Path, settings: DatasetSettings = GREY, lists: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        folder.make_pack(source, settings, lists)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- What is packed ---


@pytest.mark.parametrize("top", ["", "my images/"])
@pytest.mark.parametrize("form", [put, as_zip, as_tar])
def test_folder_zip_and_tar_give_the_same_pack(form: Callable[..., Path], top: str, tmp_path: Path) -> None:
    files = {f"{top}{name}": content for name, content in some_files().items()}
    pack, census = folder.make_pack(form(files, tmp_path / "set"), GREY)
    wanted, _ = folder.make_pack(put(some_files(), tmp_path / "plain"), GREY)
    assert pack.digest() == wanted.digest()
    assert pack.class_names == tuple(sorted(f"group{n % 2}/class{n}" for n in range(5)))
    assert pack.images.shape == (5, 3, 1, 16, 16)
    assert (pack.scale, pack.counts, pack.packing) == (255, None, GREY.packing)
    assert census[0].detail.startswith(f"digest {pack.digest()}; resize bilinear by Pillow ")
    assert [row.images for row in census if row.what == "class"] == [3] * 5


def test_classes_may_lie_at_any_depth_and_have_any_number_of_images(tmp_path: Path) -> None:
    files = {f"flat/{n}.png": picture(n) for n in range(2)} | {f"a/b/c/deep/{n}.png": picture(9 + n) for n in range(4)}
    pack, _ = folder.make_pack(put(files, tmp_path), replace(GREY, meta_train_classes=2 - 1))
    assert pack.class_names == ("a/b/c/deep", "flat")
    assert pack.counts == (4, 2)
    assert (pack.images[1, 2:] == 0).all()


def test_an_image_is_resized_as_a_whole_by_the_chosen_filter(tmp_path: Path) -> None:
    put({f"{name}/{n}.png": picture(n, (40, 21), "RGB") for name in "abcd" for n in range(2)}, tmp_path)
    pack, _ = folder.make_pack(tmp_path, replace(COLOUR, resize="nearest"))
    with Image.open(tmp_path / "a/1.png") as image:
        wanted = np.asarray(image.resize((16, 16), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(pack.images[0, 1], wanted.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_images_of_any_channels_become_those_of_the_set(mode: str, tmp_path: Path) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    put({f"{name}/{n}.{kind.lower()}": picture(n, mode=mode, kind=kind) for name in "abcd" for n in (0, 1)}, tmp_path)
    for settings in (GREY, COLOUR):
        assert folder.make_pack(tmp_path, settings)[0].images.shape == (4, 2, settings.channels, 16, 16)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    """Drawing programs save strokes on a transparent ground, whose colour is black."""
    drawn = np.zeros((16, 16, 4), np.uint8)
    drawn[4:8, 4:8, 3] = 255  # an opaque black square
    file = io.BytesIO()
    Image.fromarray(drawn, "RGBA").save(file, "PNG")
    put({f"{name}/{n}.png": file.getvalue() for name in "abcd" for n in (0, 1)}, tmp_path)
    pack, _ = folder.make_pack(tmp_path, replace(GREY, resize=None))
    assert (pack.images[:, :, 0, 4:8, 4:8] == 0).all()
    assert pack.images.sum() == 255 * (16 * 16 - 16) * 8


JUNK = ["Thumbs.db", "._0.png", ".DS_Store", "@eaDir/x.png", "#recycle/x.png", "~$x.png", "__MACOSX/x.png"]


@pytest.mark.parametrize("junk", JUNK)
def test_files_of_systems_and_tools_are_no_images_as_in_every_other_set(junk: str, tmp_path: Path) -> None:
    wanted, _ = folder.make_pack(put(some_files(), tmp_path / "clean"), GREY)
    junky = some_files() | {f"group0/class0/{junk}": b"junk", junk: b"junk"}
    made, census = folder.make_pack(put(junky, tmp_path / "junky"), GREY)
    assert made.digest() == wanted.digest()
    assert warnings_of(census) == []


def test_other_files_and_doubles_are_told(tmp_path: Path) -> None:
    files = some_files() | {"group0/class0/labels.txt": b"x", "old.zip": b"x", "group1/class1/copy.png": picture(0)}
    said = warnings_of(folder.make_pack(put(files, tmp_path), GREY)[1])
    assert [line.split(", the first")[0] for line in said] == [
        "1 images have the same pixels as another one and are packed twice or more",
        "1 files of classes passed over, since they are no PNG or JPEG images",
        "1 archives, pickles or files beside lists are not read",
    ]
    assert "crosses classes" in said[0]


# --- How it is split ---


def test_folders_named_like_splits_decide_if_the_settings_say_so(tmp_path: Path) -> None:
    files = {
        f"{top}/{name}/{n}.png": picture(n)
        for n in (0, 1)
        for top, name in (("Train", "a"), ("Train", "b"), ("valid", "c"), ("test", "d"))
    }
    by_folders = replace(GREY, split="folders", meta_train_classes=None)
    pack, census = folder.make_pack(put(files, tmp_path), by_folders)
    assert pack.class_names == ("test/d", "train/a", "train/b", "val/c")
    pools = packs.make_pools(pack, by_folders, 0)
    assert (len(pools.meta_train), len(pools.meta_test)) == (2, 1)
    assert [(row.split, row.images) for row in census if row.what == "split"] == [("test", 2), ("train", 4), ("val", 2)]
    assert packs.meta_test_names(pack, by_folders, 0) == ["test/d"]
    assert "has folders Train and test and valid, but the seed splits its classes; say split: folders" in refused(
        tmp_path
    )


def test_lists_name_classes_by_folder_or_path_and_what_they_leave_out_is_told(tmp_path: Path) -> None:
    source = put(some_files(), tmp_path / "set")
    lists = put({"train.txt": b"# mine\nclass0\n\ngroup1/class1/\n", "test.csv": b"class3\n"}, tmp_path / "lists")
    by_lists = replace(GREY, split="lists", meta_train_classes=None)
    pack, census = folder.make_pack(source, by_lists, lists)
    assert pack.class_names == ("test/group1/class3", "train/group0/class0", "train/group1/class1")
    pools = packs.make_pools(pack, by_lists, 0)
    assert pools.meta_validation is None
    assert warnings_of(census) == ["2 class folders are in no list and left out, the first: group0/class2"]


@pytest.mark.parametrize(
    ("lists", "why"),
    [
        ({"train.txt": b"class0"}, "has no test.txt; expected the names of the classes, one a line"),
        ({"train.txt": b"clas0", "test.txt": b"class1"}, "no class folder 'clas0' (did you mean 'class0'?)"),
        ({"train.txt": b"class0", "test.txt": b"group0/class0"}, "is also in "),
        ({"train.txt": b"class0", "test.txt": b"\n"}, "no class is in test; there must be some in train and in test"),
        ({"train.txt": b"class0", "test.txt": b"\xff\xfex"}, "in UTF-16, not in UTF-8; save it again as UTF-8"),
        ({"train.txt": b"a", "training.csv": b"b", "test.txt": b""}, "has both train.txt and training.csv"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists: Files, why: str, tmp_path: Path) -> None:
    source, by_lists = put(some_files(), tmp_path / "set"), replace(GREY, split="lists", meta_train_classes=None)
    assert why in refused(source, by_lists, put(lists, tmp_path / "lists"))
    assert "needs the folder of train.txt and test.txt; give it with --lists" in refused(source, by_lists)
    assert "no such folder; expected one with train.txt" in refused(source, by_lists, tmp_path / "nowhere")


# --- What is refused ---

WRONG: dict[str, tuple[Files, str]] = {
    "one image": ({"lone/0.png": picture(1)}, "lone: a class of 1 image; expected at least 2"),
    "no class": ({"0.png": picture(1)}, "0.png: an image of no class; expected a folder for each class"),
    "below a class": (
        {"group0/class0/masks/0.png": picture(1)},
        "group0/class0 holds images, and so does its subfolder group0/class0/masks; either could be the class",
    ),
    "two of one name": (
        {f"other/class0/{n}.png": picture(n) for n in (0, 1)},
        "two class folders have one name: group0/class0 and other/class0; if they are one class, join them",
    ),
    "names that differ by capitals": (
        {f"group0/CLASS0/{n}.png": picture(n) for n in (0, 1)},
        "two class folders have one name: group0/CLASS0 and group0/class0",
    ),
    "truncated": ({"group0/class0/3.png": picture(1)[:200]}, "truncated or not an image"),
    "text": ({"group0/class0/3.png": b"no image"}, "truncated or not an image (neither PNG nor JPEG)"),
    "GIF": ({"group0/class0/3.gif": b"GIF89a"}, "is named .gif, expected PNG or JPEG"),
    "PNG of another name": ({"group0/class0/3.dat": picture(1)}, "is PNG by its content, but its name does not end in"),
}


@pytest.mark.parametrize("form", [put, as_zip])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_lies_or_is_unclear_is_refused(wrong: str, form: Callable[..., Path], tmp_path: Path) -> None:
    files, why = WRONG[wrong]
    assert why in refused(form(some_files() | files, tmp_path / "set"))


def test_sixteen_bits_a_channel_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(file, "PNG")
    put(some_files() | {"group0/class0/3.png": file.getvalue()}, tmp_path)
    assert "PNG of 16 bits a channel, expected 8 or fewer" in refused(tmp_path)


def test_other_sizes_without_resize_are_refused_with_the_image(tmp_path: Path) -> None:
    message = refused(put(some_files(), tmp_path), replace(GREY, resize=None))
    assert "group0/class0/0.png: is 20x24, expected 16x16; say how to resize images of other sizes" in message


def test_two_folders_of_one_name_are_two_classes_if_the_settings_say_so(tmp_path: Path) -> None:
    files = some_files() | {f"other/class0/{n}.png": picture(n) for n in (7, 8)}
    pack, _ = folder.make_pack(put(files, tmp_path), replace(GREY, class_names="path"))
    assert {"group0/class0", "other/class0"} < set(pack.class_names)


def test_folders_without_images_sources_without_any_and_missing_ones_are_refused(tmp_path: Path) -> None:
    put(some_files(), tmp_path / "set")
    (tmp_path / "set/group0/empty").mkdir()
    assert "group0/empty: a folder with no images; fill it or take it out" in refused(tmp_path / "set")
    put({"images.zip": b"x"}, tmp_path / "packed")
    assert "images.zip may hold some: unpack it or name it itself" in refused(tmp_path / "packed")
    assert "no such file or folder; expected a folder, zip or tar of images" in refused(tmp_path / "nowhere")


def test_links_that_would_count_an_image_or_a_class_twice_are_refused(tmp_path: Path) -> None:
    source = put(some_files(), tmp_path / "set")
    link = source / "group0/class9"
    link.symlink_to(source / "group1/class1")
    assert "group0/class9: is a link to" in refused(source)
    link.unlink()
    link = source / "group0/class0/9.png"
    link.symlink_to("../../group1/class1/0.png")
    assert "class0/9.png: is a link to" in refused(source)
    link.unlink()
    (source / "group0/loop").symlink_to(source)
    assert "group0/loop: is a link to" in refused(source)
    (source / "group0/loop").unlink()
    link.symlink_to("nowhere.png")
    assert "class0/9.png: is a link or device, not a file" in refused(source)


def test_links_to_images_elsewhere_are_followed_but_no_folder_twice(tmp_path: Path) -> None:
    elsewhere = put({f"{n}.png": picture(50 + n) for n in range(3)}, tmp_path / "elsewhere")
    source = put(some_files(), tmp_path / "set")
    (source / "linked").symlink_to(elsewhere)
    assert "linked" in folder.make_pack(source, GREY)[0].class_names
    (source / "again").symlink_to(elsewhere)
    assert "is a link to" in (message := refused(source))
    assert "as is again; take one out" in message


def test_a_pack_that_could_not_be_read_is_not_made(tmp_path: Path) -> None:
    source = put(some_files(), tmp_path / "set")
    content = picture(1, (4, 4))
    (source / "huge").mkdir()
    for number in range(1000):
        (source / f"huge/{number}.png").write_bytes(content)
    message = refused(source, replace(COLOUR, size=512))
    assert "would pack to 4.4 GiB, as every class gets the place of the largest, huge of 1,000 images" in message


@pytest.mark.parametrize("name", ["a\nb", "a\x07", "a\u202eb", os.fsdecode(b"a\xff")])
def test_names_of_classes_that_cannot_be_printed_are_refused(name: str, tmp_path: Path) -> None:
    """The digest of a pack joins the names by line feeds, and a pack holds texts only."""
    message = refused(put(some_files() | {f"{name}/{n}.png": picture(n) for n in (0, 1)}, tmp_path))
    assert message.endswith("a class folder whose name has characters that cannot be printed; rename it")


def test_too_few_classes_for_the_split_are_refused_while_packing(tmp_path: Path) -> None:
    message = refused(put(some_files(), tmp_path), replace(GREY, meta_train_classes=4, meta_validation_classes=1))
    assert "has 5 classes, params.yaml wants 4 for meta-training and 1 for meta-validation" in message


# --- Settings and the command line ---


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": None}, "key 'size' is missing"),
        ({"channels": None}, "key 'channels' is missing"),
        ({"channels": 2}, "channels: expected 1 for grey or 3 for colours, found 2"),
        ({"size": 8}, "size: expected at least 16"),
        ({"meta_train_classes": None}, "say how the classes are split"),
        ({"split": "folders"}, "meta_train_classes is for a split by seed, but split: folders"),
        ({"split": "folder"}, "did you mean 'folders'?"),
        ({"ink": 0}, "ink: 0 is what images are without it"),
        (
            {"source": "omniglot", "rotations": [0], "size": None},
            "omniglot has no channels, which is for source folder",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    own = {"source": "folder", "size": 16, "channels": 1, "meta_train_classes": 3} | change
    own = {key: value for key, value in own.items() if value is not None}
    write_params(tmp_path, edit(TINY_PARAMS, (("datasets", "own"), own)))
    with pytest.raises(UserError) as caught:
        checks.load(tmp_path / "params.yaml")
    assert why in str(caught.value)


OWN = "reptile/own-5way"


@pytest.fixture
def own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project with images of its own in data/raw/own; it is the working folder."""
    training = TINY_PARAMS["trainings"][TRAINING] | {
        "dataset": "own",
        "network": "mini_imagenet",
        "image": {"size": 20, "channels": 3, "filters": 16},
        "train_shot": 3,
        "outer_steps": 2,
        "meta_batch_size": 1,
    }
    values = TINY_PARAMS | {
        "datasets": {
            "own": {"source": "folder", "size": 20, "channels": 3, "resize": "bilinear", "meta_train_classes": 6}
        },
        "trainings": {OWN: training},
        "evaluations": {f"{OWN}/1shot": TINY_PARAMS["evaluations"][f"{TRAINING}/1shot"] | {"training": OWN}},
    }
    root = tmp_path / "project"
    files = {
        f"class{number:02}/{image}.png": picture(100 * number + image, mode="RGB")
        for number in range(12)
        for image in range(3 + number % 2)
    }
    put(files, root / "data/raw/own")
    write_params(root, values)
    monkeypatch.chdir(root)
    return root


def test_ones_own_images_are_packed_trained_and_evaluated(
    own_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "own"]) == 0
    said = capsys.readouterr()
    assert "data/own.npz: 42 images of 12 classes, digest " in said.out
    assert main(["train", OWN, "--seed", "0", "--device", "cpu"]) == 0
    assert main(["evaluate", f"{OWN}/1shot", "--seed", "0", "--device", "cpu"]) == 0
    assert main(["verify"]) == 0
    assert main(["stale"]) == 0
    write_params(own_project, edit(checks_values(own_project), (("trainings", OWN, "image", "size"), 24)))
    assert main(["stale"]) == 2
    assert "the network takes size 24 and channels 3, data set 'own' has 20 and 3" in capsys.readouterr().err


def checks_values(root: Path) -> dict[str, Any]:
    from firstorder.settings.yaml_files import read_yaml

    return dict(read_yaml(root / "params.yaml"))


def test_native_and_plain_train_ones_own_images_alike(own_project: Path) -> None:
    """Up to rounding: the curves' accuracies on a few tasks may differ by a near tie, the parameters hardly."""
    from safetensors.numpy import load_file

    from firstorder.engines.native import engine as native

    if isinstance(native.library("float"), str):
        pytest.skip("no C compiler here")
    assert main(["data", "own"]) == 0
    found = {}
    for engine in ("plain", "native"):
        assert main(["train", OWN, "--seed", "0", "--device", "cpu", "--engine", engine, "--again"]) == 0
        found[engine] = load_file(own_project / f"models/{OWN}/seed-0.safetensors")
    for name, wanted in found["plain"].items():
        size = max(float(np.abs(wanted).max()), 1e-12)
        assert np.abs(found["native"][name] - wanted).max() <= 2e-2 * size, name


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["data", "own", "--names", "x"], "own is of source folder; leave out --names"),
        (["pack", "own"], "own is packed from your own copy: firstorder data own --source PATH"),
        (["data", "own", "--lists", "x"], "data/raw/own: --lists is for split: lists; leave it out"),
        (["data", "own", "--source", "nowhere"], "nowhere: no such file or folder; expected a folder, zip or tar"),
    ],
)
def test_errors_on_the_command_line_are_one_line(
    own_project: Path, command: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"firstorder: {why}")
    assert error.count("\n") == 1
    shutil.rmtree(own_project / "data/raw")
    assert main(["data", "own"]) == 2
    assert "data/raw/own: no such folder; put your images there" in capsys.readouterr().err
    assert [*(own_project / "data").iterdir()] == []
