"""The class folders of a set of one's own images, in a folder, zip or tar. No torch."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from firstorder.data import image_files
from firstorder.data.entries import Entry, entries_of
from firstorder.data.image_sources import DOWNLOAD_AGAIN, Found, Listing, counts, image_at, reading
from firstorder.data.mini_imagenet_leftovers import may_hold_images
from firstorder.errors import UserError, shown

WHAT = "a folder, zip or tar of images in one folder for each class"


@dataclass(frozen=True)
class Classes:
    """What a source has: its listing, and the images of each class folder, by its path, sorted by file name."""

    listing: Listing
    images: dict[str, list[Found]]


@contextmanager
def opened(source: Path, *, by_path: bool = False) -> Iterator[Classes]:
    """Give the classes of `source`; archives stay open within the `with` statement.

    With `by_path`, folders of one name at two places are two classes; else they are refused.

    Raises UserError, naming the place, for a missing or damaged source, an image that lies in no class folder, a folder
    without images, images in a folder and in its subfolder, two folders of one name, links within the source, and
    everything that somebody may have meant as an image though it does not count.
    """
    with ExitStack() as stack:
        listing, folders = _listed(source, stack)
        of_class: dict[PurePosixPath, list[Found]] = defaultdict(list)
        for image, path in zip(listing.images, listing.paths, strict=True):
            of_class[path.parent].append(image)
        _check_folders(source, of_class, folders, by_path=by_path)
        top = len(os.path.commonpath(of_class).split("/")) if _have_one_top(of_class) else 0
        named = {PurePosixPath(*path.parts[top:]).as_posix(): images for path, images in of_class.items()}
        for images in named.values():
            images.sort(key=lambda image: (image.name, image.where))
        yield Classes(listing, {name: named[name] for name in sorted(named)})


def _listed(source: Path, stack: ExitStack) -> tuple[Listing, set[PurePosixPath]]:
    """List the images of a source and its folders."""
    listing, folders, seen = Listing(), set[PurePosixPath](), set[PurePosixPath]()
    with reading(source, WHAT):
        if source.is_dir():
            _check_links(source)
        for entry in entries_of(source, stack):
            if image_files.is_passed_over(entry.path):
                continue
            where = f"{source}: {shown(entry.path)}"
            if entry.open is None:
                folders.add(entry.path)
                continue
            if entry.path in seen:
                raise UserError(f"{where}: comes twice; {DOWNLOAD_AGAIN}")
            seen.add(entry.path)
            _take(listing, entry, source, where)
    if not listing.images:
        held = f", but {listing.left_out[0]} may hold some: unpack it or name it itself" if listing.left_out else ""
        raise UserError(f"{source}: no images found; expected {WHAT}{held}")
    return listing, folders


def _take(listing: Listing, entry: Entry, source: Path, where: str) -> None:
    """Add a file to the listing, as an image or as what it is else."""
    if counts(entry, where):
        if entry.path.parent == PurePosixPath():
            raise UserError(
                f"{where}: an image of no class; expected a folder for each class: name the folder above it, or put "
                "it into the folder of its class"
            )
        listing.images.append(image_at(entry, entry.path.parent.as_posix(), where))
        listing.paths.append(entry.path)
    elif may_hold_images(entry.path):
        listing.left_out.append(where)
    else:
        listing.others.append(where)


def _check_links(source: Path) -> None:
    """Raise UserError for links that would make one image, or one folder, count twice."""
    inside, led_to = source.resolve(), dict[str, str]()
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not image_files.is_passed_over(PurePosixPath(name)))
        for name in [*folders, *sorted(files)]:
            path = Path(folder, name)
            is_meant = name in folders or image_files.is_image(PurePosixPath(name))
            if not (path.is_symlink() and is_meant and path.exists()):
                continue
            target, where = path.resolve(), f"{source}: {shown(path.relative_to(source).as_posix())}"
            if target == inside or inside in target.parents or target in inside.parents:
                raise UserError(
                    f"{where}: is a link to {shown(target)}, in the same set, so that it would count twice; "
                    "take it out or put a copy there"
                )
            if str(target) in led_to:
                raise UserError(f"{where}: is a link to {shown(target)}, as is {led_to[str(target)]}; take one out")
            led_to[str(target)] = shown(path.relative_to(source).as_posix())


def _check_folders(
    source: Path, classes: Iterable[PurePosixPath], folders: Iterable[PurePosixPath], *, by_path: bool
) -> None:
    """Raise UserError for class folders that may mean two things, or that hold nothing."""
    known, alike = set(classes), dict[str, PurePosixPath]()
    for path in sorted(known):
        if not path.as_posix().isprintable():
            raise UserError(
                f"{source}: {shown(path)}: a class folder whose name has characters that cannot be printed; rename it"
            )
        above = next((parent for parent in path.parents if parent in known), None)
        if above is not None:
            raise UserError(
                f"{source}: {shown(above)} holds images, and so does its subfolder {shown(path)}; either could be the "
                "class: move or take out the images of one"
            )
        name = path.as_posix() if by_path else path.name
        other = alike.setdefault(unicodedata.normalize("NFC", name).casefold(), path)
        if other != path:
            advice = "join them, or rename one"
            if not by_path:
                advice = "if they are one class, join them; if they are two, say class_names: path"
            raise UserError(f"{source}: two class folders have one name: {shown(other)} and {shown(path)}; {advice}")
    filled = known.union(*(path.parents for path in known))
    for folder in sorted(set(folders) - filled):  # which means that a copy went wrong
        if not any(parent in known for parent in folder.parents):
            raise UserError(f"{source}: {shown(folder)}: a folder with no images; fill it or take it out")


def _have_one_top(classes: Iterable[PurePosixPath]) -> bool:
    """Say whether all classes lie in one folder, as in an archive of that folder."""
    paths = list(classes)
    return len(paths) > 1 and bool(os.path.commonpath(paths))
