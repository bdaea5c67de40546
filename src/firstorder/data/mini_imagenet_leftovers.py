"""What lies beside the images of a source and is not read, or is read though it may not be meant. No torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from firstorder.data.mini_imagenet_classes import CLASS_ID

# Files that may hold a set of images. Where the images are taken from elsewhere, they are named.
HOLDERS = (
    *(".7z", ".arrow", ".bz2", ".gz", ".h5", ".hdf5", ".lmdb", ".mat", ".mdb", ".npy", ".npz", ".p", ".parquet"),
    *(".pck", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".tar", ".tbz", ".tbz2", ".tfrecord", ".tfrecords", ".tgz"),
    *(".txz", ".xz", ".zip", ".zst"),
)


def may_hold_images(path: PurePosixPath) -> bool:
    """Say whether a file may hold a set of images, by its name: an archive, a pickle or a file of arrays."""
    return path.suffix.lower() in HOLDERS


def below_others(images: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Return the images in subfolders of class folders that hold images elsewhere too, such as `masks/`.

    A class folder whose images are all in one subfolder has none.
    """
    inside: dict[PurePosixPath, dict[PurePosixPath, list[PurePosixPath]]] = defaultdict(lambda: defaultdict(list))
    for path in images:
        folder = next((parent for parent in path.parents if CLASS_ID.fullmatch(parent.name)), None)
        if folder is not None:
            inside[folder][path.parent.relative_to(folder)].append(path)
    found: list[PurePosixPath] = []
    for folder in sorted(inside):
        counts = Counter({below: len(paths) for below, paths in inside[folder].items()})
        own = PurePosixPath() if PurePosixPath() in counts else counts.most_common(1)[0][0]
        found += [path for below, paths in inside[folder].items() if below != own for path in paths]
    return found
