"""Verbs that download and pack data."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import DATASET, Arguments, argument, verb
from firstorder.errors import UserError, shown
from firstorder.files import replacing


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
    source = settings.lookup(project.datasets, arguments.dataset, "data set").source
    if source == "mini_imagenet":
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
    argument("--source", help="your copy of mini-ImageNet: folder, zip, tar or pickles; else MINI_IMAGENET"),
    argument("--names", help="CSV of the images to take, or a folder of such files; else MINI_IMAGENET_NAMES"),
)
def data(arguments: Arguments) -> None:
    """Pack mini-ImageNet from your own copy and write a census; pack other data sets as `pack` does."""
    from firstorder.data import mini_imagenet, mini_imagenet_census, packs
    from firstorder.records import cells

    session = Session.of(arguments)
    name = arguments.dataset
    chosen = settings.lookup(session.project.datasets, name, "data set")
    if chosen.source != "mini_imagenet":
        if arguments.source or arguments.names:
            raise UserError(f"{name} is not packed from a copy of yours; leave out --source and --names")
        pack(arguments)
        return
    source = arguments.source or os.environ.get("MINI_IMAGENET")
    names = arguments.names or os.environ.get("MINI_IMAGENET_NAMES")
    if not source:
        raise UserError(
            f"{name} cannot be downloaded: give your copy with --source PATH or in MINI_IMAGENET; docs/data.md lists "
            "the supported forms"
        )
    made, census = mini_imagenet.make_pack(
        Path(source), chosen.resize or "nearest", Path(names) if names else None, track=progress.shown
    )
    path = session.root / session.project.pack_path(name)
    # Both are whole before either is replaced: should one fail, the old ones stay. `verify` compares their digests.
    with replacing(path.with_suffix(".census.csv")) as part:
        cells.write_rows(part, mini_imagenet_census.CENSUS_COLUMNS, census)
        packs.write_pack(path, made)
    print(f"{shown(path)}: {census[0].images:,} images of {len(made.class_names)} classes, digest {made.digest()[:16]}")
    print(shown(path.with_suffix(".census.csv")))
    for warning in mini_imagenet_census.warnings_of(census):
        print(f"warning: {shown(warning)}", file=sys.stderr)
