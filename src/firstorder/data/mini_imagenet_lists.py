"""Lists of mini-ImageNet's images: read, and looked up in a source by name or, in ILSVRC-2012, by rank. No torch.

A class of ILSVRC-2012 is ranked by the numbers in its names, so a file too many would shift every rank behind it.
Therefore only images count, a number counts once, and one name or number with two contents is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from itertools import compress
from pathlib import Path

from firstorder.data import image_files
from firstorder.data.entries import entries_of
from firstorder.data.image_sources import Found
from firstorder.data.mini_imagenet_classes import class_at_start, classes_in
from firstorder.errors import UserError, shown
from firstorder.files import Kind, unreadable

HEADING = ["filename", "label"]
LIST_FILE = Kind(
    "a csv of file names in UTF-8",
    64 << 20,
    "expected a csv of file names in UTF-8: save it again",
    "no such file; expected a csv of file names in UTF-8: correct the path",
)


def read_names(path: Path) -> dict[str, list[str]]:
    """Read the lists of file names: class id -> names. A first line `filename,label` is a heading, no other is.

    In a folder, every csv is a list, in capitals or not, except hidden ones and those in hidden folders.

    Raises UserError for a missing or empty list, a line that names no image or one of another class than its label, or
    a name that occurs twice.
    """
    listed: dict[str, list[str]] = defaultdict(list)
    for file in _files_in(path)[0] if path.is_dir() else [path]:
        for name, *others in _lines(file):
            class_id = class_at_start(name)
            if class_id is None:
                raise UserError(
                    f"{file}: expected a name like n0153282900000005.jpg in each line, or a first line "
                    f"{','.join(HEADING)}, found {name[:80]!r}; correct that line"
                )
            if against := sorted(set().union(*map(classes_in, others)) - {class_id}):
                raise UserError(f"{file}: {name!r} is listed under class {against[0]}; correct that line")
            listed[class_id].append(name)
    twice = [name for names in listed.values() for name, count in Counter(names).items() if count > 1]
    if twice or not listed:
        problem = f"{twice[0]!r} comes twice" if twice else "no file names"
        raise UserError(f"{path}: {problem}; expected csv with each image's file name once, in the first column")
    return dict(listed)


def not_lists(path: Path) -> list[str]:
    """Return the files in a folder of lists that are not read, for messages; none for a single list."""
    return [shown(file) for file in _files_in(path)[1]] if path.is_dir() else []


def _files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the lists in a folder and its other files, both sorted."""
    with ExitStack() as stack:
        try:
            paths = sorted(entry.path for entry in entries_of(folder, stack) if entry.open)
        except OSError as error:
            raise unreadable(Path(error.filename or folder), error, LIST_FILE.what) from None
        except ValueError as error:
            raise UserError(f"{folder}: {error}; rename it") from None
    files = [folder / path for path in paths if not image_files.is_passed_over(path)]
    is_list = [file.suffix.lower() == ".csv" for file in files]
    return list(compress(files, is_list)), [file for file, its in zip(files, is_list, strict=True) if not its]


def _lines(file: Path) -> list[list[str]]:
    """Return the lines of a list, without its heading and without a byte-order mark."""
    try:
        rows = [row for row in csv.reader(io.StringIO(LIST_FILE.read_text(file), newline="")) if row]
    except csv.Error as error:
        raise LIST_FILE.refused(file, f"not a valid CSV file ({error})") from None
    names = [[cell.strip() for cell in row] for row in rows]
    return names[1:] if names and names[0] == HEADING else names


def select(found: Sequence[Found], listed: Mapping[str, list[str]], source: Path) -> tuple[list[Found], dict[str, int]]:
    """Select the listed images, under the listed names, in the order of the source.

    Also returns the number of files that were ranked, for each class with a name that was looked up by rank. Nothing in
    the files tells whether there are as many as in ILSVRC-2012; if not, all ranks from there on are wrong.
    """
    of_class: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(found):
        of_class[image.class_id].append(position)
    taken: dict[int, str] = {}
    by_rank: dict[str, int] = {}
    for class_id, names in listed.items():
        positions = of_class.get(class_id, [])
        by_name: dict[str, list[int]] = defaultdict(list)
        by_number: dict[int, list[int]] = defaultdict(list)
        for position in positions:
            by_name[found[position].name].append(position)
            if (number := _number(found[position].name)) is not None:
                by_number[number].append(position)
        ranked = sorted(by_number)
        for name in names:
            same = by_name.get(name)
            if same is None and ranked and (ravi := re.fullmatch(r"[nN][0-9]{8}([0-9]{8})\.\w+", name)):
                rank, by_rank[class_id] = int(ravi[1]), len(ranked)
                same = by_number[ranked[rank - 1]] if 1 <= rank <= len(ranked) else None
            place = _one_of(same, found, name) if same else None
            if place is None or place in taken:
                why = "is not there" if place is None else f"is {shown(found[place].name)}, as is {taken[place]!r}"
                raise UserError(
                    f"{source}: the listed image {name!r} {why} (class {class_id} has {len(positions):,} images "
                    "there); the source must hold every image listed, by its name or as a whole class of ILSVRC-2012"
                )
            taken[place] = name
    return [replace(found[position], name=taken[position]) for position in sorted(taken)], by_rank


def _one_of(same: Sequence[int], found: Sequence[Found], name: str) -> int:
    """Return the first of the files with one name or number; raises UserError unless all have the same content."""
    if len(same) > 1 and len({_digest(found[position]) for position in same}) > 1:
        first, second = (found[position].where for position in same[:2])
        raise UserError(
            f"{first}: the listed image {name!r} is there twice with different content, also at {second}; take one of "
            "them out, or name with --source the folder that is meant"
        )
    return same[0]


def _digest(image: Found) -> bytes:
    content = image.content()
    return sha256(content if isinstance(content, bytes) else content.tobytes()).digest()


def _number(name: str) -> int | None:
    """Return the number in an ILSVRC-2012 name, such as 18 in n01532829_18.JPEG."""
    matched = re.fullmatch(r"[nN][0-9]{8}_([0-9]+)\.\w+", name)
    return int(matched[1]) if matched else None
