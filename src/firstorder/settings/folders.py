"""Checks the settings of a data set of one's own images (`source: folder`)."""

from __future__ import annotations

from firstorder.errors import UserError
from firstorder.settings.trainings import DatasetSettings

FOLDER_ONLY = ("size", "channels", "split", "class_names")
BY_SEED = ("meta_train_classes", "meta_validation_classes", "split_seed", "rotations", "rotate")


def check_folder(dataset: DatasetSettings, place: str) -> None:
    """Raise UserError for a setting that lacks, or that does not go with the others; `place` begins the message."""
    for key in ("size", "channels"):
        if getattr(dataset, key) is None:
            what = DatasetSettings.__dataclass_fields__[key].metadata["help"]
            raise UserError(f"{place}: key {key!r} is missing ({what})")
    if dataset.channels == 2:
        raise UserError(f"{place}: channels: expected 1 for grey or 3 for colours, found 2")
    given = [key for key in BY_SEED if getattr(dataset, key) is not None]
    if dataset.split is not None and given:
        why = f"split: {dataset.split} says which classes are meta-training"
        raise UserError(f"{place}: {given[0]} is for a split by seed, but {why}; remove one of the two")
    if dataset.split is None and dataset.meta_train_classes is None:
        raise UserError(
            f"{place}: say how the classes are split: meta_train_classes: NUMBER, for a split by seed, or "
            "split: folders, or split: lists"
        )
    if dataset.ink == 0:
        raise UserError(f"{place}: ink: 0 is what images are without it; remove it")
