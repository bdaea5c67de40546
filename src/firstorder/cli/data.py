"""Verbs that download and pack data."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import DATASET, Arguments, argument, verb
from firstorder.errors import UserError, shown
from firstorder.files import replacing

if TYPE_CHECKING:
    from firstorder.data.census import CensusRow
    from firstorder.data.packs import Pack


@verb(
    "compute",
    argument("archive", nargs="*", help="names of archives; default: both"),
    argument("--folder", default="data/raw/omniglot", help="folder to put the archives in"),
)
def download(arguments: Arguments) -> None:
    """Download Omniglot's two archives: from the folder or URL in DATA_MIRROR, else from the official addresses."""
    from firstorder.data import downloads, omniglot

    def tell(line: str) -> None:
        print(shown(line), file=sys.stderr, flush=True)

    folder = Path(arguments.folder)
    named = {archive.name: archive for archive in omniglot.ARCHIVES}
    for archive in [settings.lookup(named, name, "archive") for name in arguments.archive or named]:
        print(shown(downloads.fetch(archive, folder, os.environ.get("DATA_MIRROR"), progress.shown, tell)))


@verb("compute", DATASET)
def pack(arguments: Arguments) -> None:
    """Pack a data set into one npz file."""
    from firstorder.data import packs

    session = Session.of(arguments)
    project = session.project
    chosen = settings.lookup(project.datasets, arguments.dataset, "data set")
    source = chosen.source
    if chosen.is_yours:
        raise UserError(
            f"{arguments.dataset} is packed from your own copy: firstorder data {arguments.dataset} --source PATH"
        )
    module = importlib.import_module(f"firstorder.data.{source}")
    raw = session.root / project.data_folder / "raw" / source
    made = module.make_pack(raw, progress.shown) if source == "omniglot" else module.make_pack(progress.shown)
    path = session.root / project.pack_path(arguments.dataset)
    packs.write_pack(path, made)
    print(
        f"{shown(path)}: {len(made.class_names):,} classes, images {made.images.shape[1:]}, digest {made.digest()[:16]}"
    )


@verb(
    "compute",
    DATASET,
    argument(
        "--source",
        help="your images, or your copy of mini-ImageNet; default: data/raw/NAME, or for mini-ImageNet MINI_IMAGENET",
    ),
    argument("--names", help="mini-ImageNet: CSV of the images to take, or a folder of such; else MINI_IMAGENET_NAMES"),
    argument("--lists", help="split: lists: the folder of train.txt, test.txt and perhaps val.txt, names of classes"),
)
def data(arguments: Arguments) -> None:
    """Pack your own images, or mini-ImageNet from your own copy, and write a census; pack others as `pack` does."""
    session = Session.of(arguments)
    name = arguments.dataset
    chosen = settings.lookup(session.project.datasets, name, "data set")
    if chosen.pack is not None:
        raise UserError(f"{name} splits the pack of another data set: firstorder data {chosen.pack} --source PATH")
    _check_options(arguments, chosen.source)
    if chosen.source == "folder":
        from firstorder.data import folder

        default = session.root / session.project.data_folder / folder.RAW.format(dataset=name)
        source = Path(arguments.source or default)
        if not (arguments.source or default.exists()):
            raise UserError(f"{default}: no such folder; put your images there, or name them with --source PATH")
        beside = default.with_name(f"{name}-lists")
        lists = Path(arguments.lists) if arguments.lists else beside if chosen.split == "lists" else None
        write_pack(session, name, *folder.make_pack(source, chosen, lists, track=progress.shown))
        return
    if chosen.source != "mini_imagenet":
        pack(arguments)
        return
    from firstorder.data import mini_imagenet

    copy = arguments.source or os.environ.get("MINI_IMAGENET")
    names = arguments.names or os.environ.get("MINI_IMAGENET_NAMES")
    if not copy:
        raise UserError(
            f"{name} cannot be downloaded: give your copy with --source PATH or in MINI_IMAGENET; docs/data.md lists "
            "the supported forms"
        )
    chosen_names = Path(names) if names else None
    made = mini_imagenet.make_pack(Path(copy), chosen.resize or "nearest", chosen_names, track=progress.shown)
    write_pack(session, name, *made)


def _check_options(arguments: Arguments, source: str) -> None:
    """Raise UserError for an option that this source has no use for."""
    takes = {"mini_imagenet": ("source", "names"), "folder": ("source", "lists")}.get(source, ())
    given = [option for option in ("source", "names", "lists") if getattr(arguments, option)]
    if wrong := [f"--{option}" for option in given if option not in takes]:
        why = "is not packed from a copy of yours" if not takes else f"is of source {source}"
        raise UserError(f"{arguments.dataset} {why}; leave out {' and '.join(wrong)}")


def write_pack(session: Session, name: str, made: Pack, census: Sequence[CensusRow]) -> None:
    """Write a pack and its census, and print where they are and what somebody who packs must hear."""
    from firstorder.data.census import CENSUS_COLUMNS, warnings_of
    from firstorder.data.packs import write_pack as write
    from firstorder.records import row_files

    path = session.root / session.project.pack_path(name)
    # Both are whole before either is replaced: should one fail, the old ones stay. `verify` compares their digests.
    with replacing(path.with_suffix(".census.csv")) as part:
        row_files.write_rows(part, CENSUS_COLUMNS, census)
        write(path, made)
    print(f"{shown(path)}: {census[0].images:,} images of {len(made.class_names)} classes, digest {made.digest()[:16]}")
    print(shown(path.with_suffix(".census.csv")))
    for warning in warnings_of(census):
        print(f"warning: {shown(warning)}", file=sys.stderr)
