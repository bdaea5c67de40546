"""Which classes of one's own images are meta-training, meta-validation and meta-test, unless the seed decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from firstorder.data.folder_classes import Classes
from firstorder.data.image_sources import Found
from firstorder.errors import UserError, shown
from firstorder.files import Kind
from firstorder.settings import DatasetSettings
from firstorder.settings.schema import nearest

# What a split may be called, as a folder or a list, in capitals or not.
NAMES = {
    **dict.fromkeys(("train", "training", "meta-train"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "meta-validation"), "val"),
    **dict.fromkeys(("test", "testing", "meta-test"), "test"),
}
NEEDED = ("train", "test")
LIST_FILE = Kind("a text with the name of one class a line", 64 << 20, "save it again as UTF-8")
ENDINGS = (".txt", ".csv")


def split(listed: Classes, settings: DatasetSettings, lists: Path | None, source: Path) -> dict[str, list[Found]]:
    """Return the images of each class by its name in the pack: `split/name`, or the name if the seed splits.

    Raises UserError if classes and split do not fit: a folder that is no split, a class in two splits or lists, a
    listed class that is not there, a split without classes; and if a source has folders train/ and test/ though the
    seed splits.
    """
    if settings.split == "lists":
        if lists is None:
            raise UserError(f"{source}: split: lists needs the folder of train.txt and test.txt; give it with --lists")
        return _by_lists(listed, lists)
    if lists is not None:
        raise UserError(f"{source}: --lists is for split: lists; leave it out or say so in params.yaml")
    if settings.split == "folders":
        return _by_folders(listed, source)
    tops = {name.split("/")[0] for name in listed.images if "/" in name}
    if {NAMES.get(top.lower()) for top in tops} >= set(NEEDED):
        raise UserError(
            f"{source}: has folders {' and '.join(sorted(map(shown, tops)))}, but the seed splits its classes; say "
            "split: folders, or name one of the folders with --source"
        )
    return dict(listed.images)


def is_split_by_folders(classes: Mapping[str, object]) -> bool:
    """Say whether the classes lie in folders that are named like splits, in `train` and `test` at least."""
    tops = {NAMES.get(name.split("/")[0].lower()) if "/" in name else None for name in classes}
    return None not in tops and tops >= set(NEEDED)


def _by_folders(listed: Classes, source: Path) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for name, images in listed.images.items():
        top, _, rest = name.partition("/")
        pool = NAMES.get(top.lower())
        if pool is None or not rest:
            raise UserError(
                f"{source}: {shown(name)}: with split: folders every class lies in train/, val/ or test/; move it"
            )
        if f"{pool}/{rest}" in found:
            raise UserError(f"{source}: class {shown(rest)} lies twice in folders of {pool}; join them")
        found[f"{pool}/{rest}"] = images
    return _checked(found, f"{source}: split: folders")


def _by_lists(listed: Classes, lists: Path) -> dict[str, list[Found]]:
    by_name = _names_of(listed.images)
    found: dict[str, list[Found]] = {}
    taken: dict[str, Path] = {}
    for pool, path in _lists_in(lists).items():
        for name in _lines(path):
            if name not in by_name:
                raise UserError(f"{path}: no class folder {name[:80]!r}{nearest(name, by_name)}; correct that line")
            path_of_class = by_name[name]
            if path_of_class is None:
                raise UserError(f"{path}: several class folders are called {name!r}; write its path, as in a/{name}")
            if path_of_class in taken:
                raise UserError(f"{path}: class {name!r} is also in {taken[path_of_class]}; take it out of one")
            taken[path_of_class] = path
            found[f"{pool}/{path_of_class}"] = listed.images[path_of_class]
    listed.listing.unlisted += [shown(name) for name in listed.images if name not in taken]
    return _checked(found, f"{lists}: split: lists")


def _names_of(classes: Mapping[str, object]) -> dict[str, str | None]:
    """Map what a list may call a class to its path: its path, or the name of its folder; None if several have it."""
    names: dict[str, str | None] = {}
    for path in classes:
        last = path.rpartition("/")[2]
        names[last] = None if last in names else path
    return names | {path: path for path in classes}


def _lists_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with train.txt and test.txt, and perhaps val.txt")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        pool = NAMES.get(path.stem.lower())
        if pool is None or path.suffix.lower() not in ENDINGS:
            continue
        if pool in found:
            raise UserError(f"{folder}: has both {found[pool].name} and {path.name}, expected one; take the other out")
        found[pool] = path
    for pool in NEEDED:
        if pool not in found:
            raise UserError(f"{folder}: has no {pool}.txt; expected the names of the classes, one a line")
    return found


def _lines(path: Path) -> list[str]:
    lines = [line.strip().rstrip("/") for line in LIST_FILE.read_text(path).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _checked(found: dict[str, list[Found]], where: str) -> dict[str, list[Found]]:
    """Sort the classes by name; raise UserError if a pool that is needed has none, or a class is in two."""
    for pool in NEEDED:
        if not any(name.startswith(f"{pool}/") for name in found):
            raise UserError(f"{where}: no class is in {pool}; there must be some in train and in test")
    twice: dict[str, str] = {}
    for name in sorted(found):
        pool, _, rest = name.partition("/")
        if (other := twice.setdefault(rest.casefold(), pool)) != pool:
            raise UserError(f"{where}: class {shown(rest)} is in both {other} and {pool}; a class is in one split only")
    return {name: found[name] for name in sorted(found)}
