"""Which settings `firstorder try` takes for a folder of images, from what the folder has and what this machine does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import settings
from firstorder.errors import UserError, shown

if TYPE_CHECKING:
    import numpy as np

    from firstorder.data.image_sources import Found
    from firstorder.settings import DatasetSettings

LOOKED_AT = 60  # images that are decoded to choose a size and channels
SIDES = {1: 28, 3: 48}  # pixels, by channels: what a few minutes on a CPU can train on
TRAIN_SHOT = 10
SEED = 0
# Which part of the time goes to outer steps, the learning curve and the two evaluations.
SHARES = {"training": 0.55, "curve": 0.15, "evaluation": 0.3}
POINTS = 20  # of the learning curve
POOLS = 2  # on which a point of the curve is measured
TASKS = (50, 1000)  # fewest and most of an evaluation
CURVE_TASKS = (5, 50)
OUTER_STEPS = (10, 200_000)


@dataclass(frozen=True)
class Wish:
    """What the user asked for; `size` and `channels` may be None: chosen from the images."""

    way: int
    shot: int
    minutes: float
    size: int | None = None
    channels: int | None = None
    class_names: str | None = None


@dataclass(frozen=True)
class Speed:
    """Seconds of one outer step, and of one task of an evaluation in both modes, measured on this machine."""

    outer_step: float
    task: float


@dataclass(frozen=True)
class Look:
    """What a folder has: images of each class, whether folders split them, and the form of a sample of the images."""

    counts: dict[str, int]
    by_folders: bool
    grey: bool
    side: int  # median of the shorter sides, in pixels


def look_at(source: Path, *, by_path: bool) -> Look:
    """List the classes of a folder and decode some images; raises UserError as folder_classes.opened."""
    from statistics import median

    from firstorder.data import folder_classes, folder_splits

    with folder_classes.opened(source, by_path=by_path) as listed:
        images = [image for of_class in listed.images.values() for image in of_class]
        sample = [_decoded(image) for image in images[:: max(1, len(images) // LOOKED_AT)][:LOOKED_AT]]
    counts = {name: len(of_class) for name, of_class in listed.images.items()}
    side = int(median(min(each.shape[:2]) for each in sample))
    grey = all((each == each[..., :1]).all() for each in sample)
    return Look(counts, folder_splits.is_split_by_folders(counts), grey, side)


def _decoded(found: Found) -> np.ndarray[Any, Any]:
    import numpy as np

    from firstorder.data import image_files

    content = found.content()
    assert isinstance(content, bytes), "a folder has files"
    try:
        return np.asarray(image_files.decode(content).convert("RGB"))
    except image_files.ImageFaultError as fault:
        raise UserError(f"{found.where}: {fault}; get this file again, as PNG or JPEG of 8 bits a channel") from None


def dataset_of(look: Look, wish: Wish, source: Path) -> DatasetSettings:
    """Choose the form of the images and the split.

    Raises UserError if the classes are too few for `wish.way` in meta-training and meta-test each, or a class has too
    few images for `wish.shot` and a query.
    """
    from firstorder.data import folder_splits

    smallest = min(look.counts, key=lambda name: look.counts[name])
    if look.counts[smallest] < wish.shot + 1:
        raise UserError(
            f"{source}: class {shown(smallest)} has {look.counts[smallest]} images, a task of {wish.shot} shots needs "
            f"{wish.shot + 1} of every class; add images, take the folder out or lower --shot"
        )
    channels = wish.channels or (1 if look.grey else 3)
    form: dict[str, Any] = {"size": wish.size or SIDES[channels], "channels": channels, "resize": "bilinear"}
    form["class_names"] = wish.class_names
    if look.by_folders:
        split = settings.DatasetSettings(source="folder", split="folders", **form)
        for pool in folder_splits.NEEDED:
            inside = [name for name in look.counts if folder_splits.NAMES.get(name.split("/")[0].lower()) == pool]
            if len(inside) < wish.way:
                raise UserError(
                    f"{source}: {pool} has {len(inside)} classes, {wish.way}-way tasks need at least {wish.way} in "
                    f"train and in test each; add classes or lower --way"
                )
        return split
    classes = len(look.counts)
    if classes < 2 * wish.way:
        raise UserError(
            f"{source}: has {classes} classes; {wish.way}-way tasks need {2 * wish.way}, {wish.way} to train on and "
            f"{wish.way} others to be judged on; add classes or say --way {max(2, classes // 2)}"
            + (" (at least 4 classes are needed)" if classes < 4 else "")
        )
    test = max(wish.way, round(classes / 4))
    return settings.DatasetSettings(source="folder", meta_train_classes=classes - test, **form)


def training_of(dataset: DatasetSettings, name: str, look: Look, wish: Wish) -> dict[str, Any]:
    """Return the settings of Reptile on the data set `name`, of one outer step: those of the paper's tables, nearly.

    Grey images get the form of its Omniglot network, colours that of its mini-ImageNet network.
    """
    grey = dataset.channels == 1
    inner = inner_loop(wish)
    return {
        "algorithm": "reptile",
        "dataset": name,
        "network": "omniglot" if grey else "mini_imagenet",
        "image": {"size": dataset.size, "channels": dataset.channels, "filters": 64 if grey else 32},
        "way": wish.way,
        "train_shot": min(TRAIN_SHOT, min(look.counts.values())),
        "sampling": "cycle",
        "inner_optimiser": "adam",
        "inner_learning_rate": 0.001,
        "inner_steps": 5 if grey else 8,
        "inner_batch_size": 10,
        "second_moments": "carried",
        "outer_steps": 1,
        "outer_step_size": 1.0,
        "outer_step_size_final": 0.0,
        "meta_batch_size": 5,
        "curve": {"every": 1, "tasks": CURVE_TASKS[0], "shot": wish.shot, **inner},
    }


def inner_loop(wish: Wish) -> dict[str, int]:
    """Return the inner loop of evaluation: as many steps as in the paper's tables."""
    return {"inner_steps": 50, "inner_batch_size": min(10, wish.way * wish.shot)}


def lengths(speed: Speed, wish: Wish) -> dict[str, int]:
    """Return how many outer steps, tasks of the curve's points and tasks of an evaluation fill the minutes."""
    seconds = {what: share * wish.minutes * 60 for what, share in SHARES.items()}
    steps = _within(OUTER_STEPS, seconds["training"] / speed.outer_step)
    return {
        "outer_steps": steps,
        "every": max(1, steps // POINTS),
        "curve_tasks": _within(CURVE_TASKS, seconds["curve"] / (POINTS * POOLS * speed.task)),
        "tasks": _within(TASKS, seconds["evaluation"] / (2 * speed.task)),
    }


def params(name: str, title: str, dataset: DatasetSettings, reptile: Mapping[str, Any], wish: Wish, tasks: int) -> Any:
    """Return a whole params.yaml as plain values: Reptile and random initialisation, one evaluation each, one table."""
    from firstorder.settings import resolved

    column = f"{name}-{wish.way}way"
    untrained = {**reptile, "algorithm": "untrained", "outer_steps": 0}
    evaluation = {"shot": wish.shot, **inner_loop(wish), "tasks": tasks}
    algorithms = {"reptile": ("Reptile", reptile), "untrained": ("Random initialisation", untrained)}
    rows = [
        {"label": f"{label}, {mode}", "algorithm": algorithm, "mode": mode}
        for algorithm, (label, _) in algorithms.items()
        for mode in ("inductive", "transductive")
    ]
    return {
        "title": title,
        "data_folder": "data",
        "seeds": [SEED],
        "datasets": {name: resolved(dataset)},
        "trainings": {f"{algorithm}/{column}": made for algorithm, (_, made) in algorithms.items()},
        "evaluations": {
            f"{algorithm}/{column}/{wish.shot}shot": {"training": f"{algorithm}/{column}", **evaluation}
            for algorithm in algorithms
        },
        "tables": {"accuracies": {"title": title, "columns": [f"{column}/{wish.shot}shot"], "rows": rows}},
        "figures": {},
    }


def name_of(source: Path) -> str:
    """Return the name of the data set, from that of the folder or archive; letters that a name may not have are `-`."""
    stem = source.resolve().name
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"):
        stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:60].rstrip("-._") or "images"


def _within(limits: Sequence[int], value: float) -> int:
    """Return a whole number within limits, cut to two digits, which are easy to read."""
    found = int(min(max(value, limits[0]), limits[1]))
    digits = max(0, len(str(found)) - 2)
    cut: int = found // 10**digits * 10**digits
    return max(limits[0], cut)
