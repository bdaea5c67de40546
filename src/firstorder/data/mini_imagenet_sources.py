"""The forms in which mini-ImageNet is distributed: class folders, tars in a tar, and the three cache pickles. No torch.

Two surprises. An image's class is the WordNet id of its folder (or the beginning of its name), whatever the folders
above are called: some copies have parts of the same classes in `train/` and `val/`. Ravi and Larochelle's names
(n0153282900000005.jpg) are not ILSVRC's: their last eight digits are the rank, from 1, among the images of that class
in ILSVRC-2012, sorted by their number. Nothing is unpacked to disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from firstorder.data import image_files, mini_imagenet_caches
from firstorder.data.entries import Entry, entries_of, members_of, open_tar
from firstorder.data.image_sources import DOWNLOAD_AGAIN, Found, Listing, counts, image_at, reading
from firstorder.data.mini_imagenet_classes import class_at_start, class_named, class_of_folders
from firstorder.data.mini_imagenet_leftovers import below_others, may_hold_images
from firstorder.errors import UserError, shown


@contextmanager
def opened(source: Path, classes: Collection[str], *, chosen: bool = False) -> Iterator[Listing]:
    """Give the images of `source`, in its order; archives stay open within the `with` statement.

    `chosen` says that the caller will select images by name, which is required if the source has whole classes of
    ILSVRC-2012. Then classes that are not among `classes` are skipped, and so are images of no class.

    Raises UserError, naming the place, for a missing or damaged source, an image or folder of a class that is not
    among `classes`, a class folder without images, a file name that contradicts its folder, tars of classes unless
    `chosen`, and pickles that are refused, incomplete or inconsistent.
    """
    with ExitStack() as stack:
        caches = mini_imagenet_caches.paths(source)
        if caches and chosen:
            raise UserError(f"{source}: the cache pickles hold no file names to choose by; leave out --names")
        if caches:
            beside = _beside_caches(source, stack)
            yield Listing([image for path in caches for image in _cached(path, classes)], left_out=beside)
        else:
            yield _listed(source, stack, classes, chosen=chosen)


def _listed(source: Path, stack: ExitStack, classes: Collection[str], *, chosen: bool) -> Listing:
    """List the images of a folder or archive, including those in tars of classes inside it."""
    with reading(source, "mini-ImageNet"):
        everything = list(entries_of(source, stack))
        entries = [entry for entry in everything if not image_files.is_passed_over(entry.path)]
        listing, seen = Listing(), set()
        folders: set[PurePosixPath] = set()
        filled: set[PurePosixPath] = set()
        for entry in entries:
            class_id = _class_of(entry, source, chosen=chosen)
            where = f"{source}: {shown(entry.path)}"
            if class_id is None and entry.open and may_hold_images(entry.path):
                listing.left_out.append(where)
            if class_id is None or (chosen and class_id not in classes):
                continue
            if entry.path in seen and entry.open:
                raise UserError(f"{where}: comes twice; {DOWNLOAD_AGAIN}")
            seen.add(entry.path)
            if entry.open and not counts(entry, where, archives=True):
                listing.others.append(where)
                continue
            if class_id not in classes:
                raise UserError(
                    f"{where}: class {class_id} is not among the {len(classes)} of mini-ImageNet; take it out or, if "
                    "this is all of ILSVRC-2012, say with --names which images are wanted"
                )
            if entry.open is None:
                folders.add(entry.path)
                continue
            filled.update(entry.path.parents)
            if entry.path.suffix.lower() == ".tar":
                if not chosen:
                    raise UserError(f"{where}: is a whole class; say with --names which of its images are wanted")
                _add_tar(listing, entry, class_id, where, stack)
            else:
                listing.images.append(image_at(entry, class_id, where))
                listing.paths.append(entry.path)
    for folder in sorted(folders - filled):  # which means that a copy went wrong
        raise UserError(f"{source}: {shown(folder)}: a class folder with no images; fill it or take it out")
    if not listing.images:
        raise UserError(_no_images(source, everything, listing.left_out))
    listing.below = [f"{source}: {shown(path)}" for path in below_others(listing.paths)]
    return listing


def _beside_caches(source: Path, stack: ExitStack) -> list[str]:
    """List the archives and further pickles beside the three; none if one of the three was named.

    Raises UserError for images of classes beside them, since either could be the set that is meant.
    """
    if mini_imagenet_caches.is_cache(source):
        return []
    beside = []
    with reading(source, "mini-ImageNet"):
        for entry in entries_of(source, stack):
            if entry.open is None or image_files.is_passed_over(entry.path):
                continue
            named = class_of_folders(entry.path.parts[:-1]) or class_at_start(entry.path.name)
            if named and (image_files.is_image(entry.path) or may_hold_images(entry.path)):
                raise UserError(
                    f"{source}: has the three cache pickles and also images in files, such as {shown(entry.path)}; "
                    "name with --source the folder of the images or, if the pickles are meant, one of the three"
                )
            is_one = len(entry.path.parts) == 1 and mini_imagenet_caches.is_cache(entry.path)
            if may_hold_images(entry.path) and not is_one:
                beside.append(f"{source}: {shown(entry.path)}")
    return beside


def _no_images(source: Path, entries: Sequence[Entry], left_out: Sequence[str]) -> str:
    """Say that a source has no images, and why not if all lie in hidden folders or in archives."""
    images = [e.path for e in entries if e.open and e.path.suffix.lower() in image_files.SUFFIXES]
    if images:
        return (
            f"{source}: no images found: {len(images):,} lie in hidden folders or folders of a system, such as "
            f"{shown(images[0])}, which are passed over; name the folder that has them, or pack the archive from "
            "within it"
        )
    if left_out:
        return f"{left_out[0]}: archives and pickles in a folder or archive are not read; unpack it or name it itself"
    return (
        f"{source}: no images found; expected images in folders named by WordNet id (n01532829), tars of "
        f"such classes, or {', '.join(mini_imagenet_caches.NAMES)}"
    )


def _add_tar(listing: Listing, tar: Entry, class_id: str, where: str, stack: ExitStack) -> None:
    """Add the images in the tar of a class."""
    assert tar.open is not None
    archive = stack.enter_context(open_tar(stack.enter_context(tar.open())))
    before = len(listing.images)
    for entry in members_of(archive):
        inside = f"{where}: {shown(entry.path)}"
        if entry.open is None or image_files.is_passed_over(entry.path):
            continue
        _check_class(entry, class_id, where)
        if counts(entry, inside, archives=True):
            listing.images.append(image_at(entry, class_id, inside))
            listing.paths.append(tar.path / class_id / entry.path)
        else:
            listing.others.append(inside)
    if len(listing.images) == before:
        raise UserError(f"{where}: holds no images; {DOWNLOAD_AGAIN}")


def _class_of(entry: Entry, source: Path, *, chosen: bool) -> str | None:
    """Return the class of a file, class folder or tar of a class; None for anything that belongs to no class."""
    by_folder = class_of_folders(entry.path.parts[:-1] if entry.open else entry.path.parts)
    if entry.open is None:
        return by_folder
    by_name = class_at_start(entry.path.name)
    if by_folder or by_name:
        _check_class(entry, by_folder or by_name or "", str(source))
    if entry.path.suffix.lower() == ".tar" and entry.path.name.lower() != f"{by_name}.tar" and not by_folder:
        return None
    if by_folder or by_name:
        return by_folder or by_name
    if image_files.is_image(entry.path) and not chosen:
        raise UserError(
            f"{source}: {shown(entry.path)}: an image of no class; expected a folder named by WordNet id above it: "
            "name the folder of the classes (as Data/CLS-LOC/train) with --source, or the wanted images with --names"
        )
    return None


def _check_class(entry: Entry, class_id: str, source: str) -> None:
    """Raise UserError unless the name of a file, and each folder above it, names this class or none."""
    by_name, folders = class_at_start(entry.path.name), entry.path.parts[:-1]
    if by_name and by_name != class_id:
        why = f"its name says class {by_name}, its folder {class_id}"
    elif others := [named for folder in folders if (named := class_named(folder)) not in (class_id, None)]:
        why = f"a folder says class {others[0]}, another or its name {class_id}"
    else:
        return
    raise UserError(f"{source}: {shown(entry.path)}: {why}; move it")


def _cached(path: Path, classes: Collection[str]) -> list[Found]:
    """List the images of one cache pickle, which have numbers instead of file names."""
    cache = mini_imagenet_caches.read(path, classes)
    return [
        Found(class_id, f"{number:08}", f"{path}: image {number}", partial(cache.images.__getitem__, number))
        for number, class_id in enumerate(cache.class_ids)
    ]
