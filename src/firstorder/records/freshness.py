"""What is recorded against what params.yaml and the data say now: fresh, or stale and since which change.

A newcomer would get wrong: time stamps mean nothing after a clone or a pull, so nothing here looks at them. A file is
fresh if it was made with the very settings that params.yaml resolves to now (numerics_version among them) and, where
the packed data lies here, from data of the same content. Without the data, as in a fresh clone, settings decide alone.

Nothing here imports NumPy or torch: Snakemake asks these questions for every file.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.records import cells
from firstorder.settings import (
    ADAPTATION,
    ALPHABETS,
    CURVE,
    EXPANSION,
    INNER_PRODUCTS,
    MANIFOLD_POINTS,
    MODEL,
    RECORD,
    SINE_FITS,
    SINE_LOSSES,
    Mode,
    Project,
    digest,
    lookup,
)

DONE, STALE, MISSING = "done", "stale", "missing"
UNKNOWN = "nothing beside it says with which settings it was made"
_DATA = "data_digest"
_LARGEST_HEADER = 10**6  # bytes; ours have a few thousand


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A file that is computed: what it is called, with which settings it should be made, and how to make it."""

    name: str
    about: str  # the cell, training or evaluation that it measures; its path if it measures none
    path: str  # relative to the folder of params.yaml, like `pack` and `model`
    wanted: dict[str, Any]
    command: str
    pack: str | None = None  # packed data that it depends on
    training: str | None = None  # whose model it is measured on, if it is
    seed: int | None = None


def cell(project: Project, evaluation: str, mode: Mode, seed: int) -> Expected:
    """Return what the record of a cell should be."""
    training = lookup(project.evaluations, evaluation, "evaluation").training
    return Expected(
        name=f"{evaluation}/{mode} seed {seed}",
        about=f"{evaluation}/{mode}",
        path=RECORD.format(evaluation=evaluation, mode=mode, seed=seed),
        wanted=project.settings_of_evaluation(evaluation),
        command=f"make cell CELL={evaluation}/{mode} SEED={seed}",
        pack=_pack(project, training),
        training=training,
        seed=seed,
    )


def curve(project: Project, training: str, seed: int) -> Expected:
    """Return what the learning curve of a training should be."""
    return Expected(
        name=f"curve of {training} seed {seed}",
        about=training,
        path=CURVE.format(training=training, seed=seed),
        wanted=project.settings_of_training(training),
        command=f"firstorder train {training} --seed {seed}",
        pack=_pack(project, training),
    )


def adaptation(project: Project, evaluation: str, seed: int) -> Expected:
    """Return what the accuracies along an evaluation should be."""
    return _beside(project, evaluation, seed, ("adaptation", ADAPTATION, project.settings_of_adaptation(evaluation)))


def alphabets(project: Project, evaluation: str, seed: int) -> Expected:
    """Return what an evaluation's errors by alphabet should be."""
    return _beside(project, evaluation, seed, ("alphabets", ALPHABETS, project.settings_of_alphabets(evaluation)))


def simulation(project: Project, path: str) -> Expected:
    """Return what a file of Figure 1 or 2, or of section 5's expansion, should be."""
    verb, wanted = {
        SINE_LOSSES: ("sine", project.settings_of_sine),
        SINE_FITS: ("sine", project.settings_of_sine),
        MANIFOLD_POINTS: ("manifolds", project.settings_of_manifolds),
        EXPANSION: ("theory", project.settings_of_theory),
    }[path]
    return Expected(name=path, about=path, path=path, wanted=wanted(), command=f"firstorder {verb}")


def inner_products(project: Project, training: str, seed: int) -> Expected:
    """Return what the inner products of a training should be."""
    return Expected(
        name=f"inner products of {training} seed {seed}",
        about=training,
        path=INNER_PRODUCTS.format(training=training, seed=seed),
        wanted=project.settings_of_theory(training),
        command=f"firstorder inner-products {training} --seed {seed}",
        pack=_pack(project, training),
    )


def everything(project: Project) -> Iterator[Expected]:
    """List every file that is computed for params.yaml, cells first."""
    for evaluation, mode, seed in project.cells():
        yield cell(project, evaluation, mode, seed)
    for training in project.trainings:
        yield from (curve(project, training, seed) for seed in project.seeds)
    for name in project.adaptations or {}:
        yield from (adaptation(project, name, seed) for seed in project.seeds)
    for name in project.alphabets or {}:
        yield from (alphabets(project, name, seed) for seed in project.seeds)
    if project.sine is not None:
        yield from (simulation(project, path) for path in (SINE_LOSSES, SINE_FITS))
    if project.manifolds is not None:
        yield simulation(project, MANIFOLD_POINTS)
    if project.theory is not None:
        yield simulation(project, EXPANSION)
        for name in project.theory.inner_products.trainings:
            yield from (inner_products(project, name, seed) for seed in project.seeds)


def difference(root: Path, wanted: Expected) -> str | None:
    """Name the first difference between how a file was made and how it should be; None if it is fresh or not there.

    Raises UserError where the file was changed after it was recorded.
    """
    path = root / wanted.path
    if not path.exists():
        return None
    made = dataclasses.asdict(cells.read_record(path)) if path.suffix == ".json" else cells.read_run(path)
    if path.suffix != ".json":
        cells.check_unedited(path, path.read_bytes())
    if made.get("settings_digest") != digest(wanted.wanted):
        return _changed_setting(made, wanted.wanted)
    return _changed_data(root, wanted.pack, made.get("data_digest"))


def state(root: Path, *wanted: Expected) -> str:
    """Say whether what is computed at once is DONE: MISSING if a file of it is not there, else STALE if one is stale.

    Raises UserError where a file was changed after it was recorded.
    """
    if not all((root / item.path).exists() for item in wanted):
        return MISSING
    return STALE if any(difference(root, item) is not None for item in wanted) else DONE


def since(difference: str) -> str:
    """Say what has changed since a stale file was made."""
    if difference == UNKNOWN:
        return difference
    changed = "the data" if difference.startswith(_DATA) else "params.yaml"
    return f"{changed} has changed since: {difference}"


def stale(root: Path, project: Project) -> list[tuple[Expected, str]]:
    """List what is recorded below `root` and stale, each with the first difference."""
    found = ((wanted, difference(root, wanted)) for wanted in everything(project))
    return [(wanted, what) for wanted, what in found if what is not None]


def is_trained(root: Path, project: Project, training: str, seed: int) -> bool:
    """Say whether a model lies there that was trained with the settings and the data of now; it tells that itself."""
    made = model_header(root / MODEL.format(training=training, seed=seed))
    fresh = made.get("training_digest") == digest(project.settings_of_training(training))
    return fresh and _changed_data(root, _pack(project, training), made.get("data_digest")) is None


def paths_to_rebuild(root: Path, project: Project, wanted: Expected) -> list[str]:
    """Name the files to compute again for a stale one: itself and, where that is stale too, the model it needs.

    Raises UserError where another checkpoint lies in the place of that model.
    """
    paths = [wanted.path]
    if wanted.training is not None and wanted.seed is not None:
        model = MODEL.format(training=wanted.training, seed=wanted.seed)
        if (root / model).exists() and not is_trained(root, project, wanted.training, wanted.seed):
            _check_own(root / model, wanted.training, wanted.seed)
            paths.append(model)
    return paths


def _check_own(path: Path, training: str, seed: int) -> None:
    """Raise UserError where a model that is to be trained again is another one, which would be lost."""
    made = model_header(path)
    if (made.get("training"), made.get("seed")) != (training, seed):
        another = f"the checkpoint of {made.get('training')}, seed {made.get('seed')}"
        raise UserError(
            f"{path}: it is {another if made else 'no checkpoint of this package'}, expected {training}, seed {seed}; "
            "move it away, then fetch the right one (dvc pull) or train it"
        )


def model_header(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself, without torch; empty where there is none or it is not one of ours."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _LARGEST_HEADER else {}
        about = json.loads(header["__metadata__"]["about"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return about if isinstance(about, dict) else {}


def pack_digest(path: Path) -> str | None:
    """Read the content digest that a packed data set claims, and no image; None where there is none to read.

    That the content has this digest is checked when it is used (packs.read_pack), and by `firstorder verify`.
    """
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _claimed_digest(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=16)
def _claimed_digest(path: Path, changed: int, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            array = archive.read("digest.npy")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    # An npy file: ten bytes, the last two the length of the header, which says `<U64`; then the text in UTF-32.
    start = 10 + int.from_bytes(array[8:10], "little")
    return array[start:].decode("utf-32-le", errors="replace").rstrip("\0")


def _pack(project: Project, training: str) -> str:
    return project.pack_path(lookup(project.trainings, training, "training").dataset)


def _beside(project: Project, evaluation: str, seed: int, kind: tuple[str, str, dict[str, Any]]) -> Expected:
    verb, path, wanted = kind
    training = project.evaluations[evaluation].training
    return Expected(
        name=f"{verb} of {evaluation} seed {seed}",
        about=evaluation,
        path=path.format(evaluation=evaluation, seed=seed),
        wanted=wanted,
        command=f"firstorder {verb} {evaluation} --seed {seed}",
        pack=_pack(project, training),
        training=training,
        seed=seed,
    )


def _changed_setting(made: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first setting that differs, or the digests where the settings themselves are not recorded."""
    if made.get("settings_digest") is None:
        return UNKNOWN
    told = f"settings: {made['settings_digest']} -> {digest(wanted)} (of the old ones only this digest is recorded)"
    if not isinstance(made.get("settings"), dict):
        return told
    # Through JSON and back, as the record went: tuples are lists there.
    return cells.first_difference(made["settings"], json.loads(json.dumps(wanted))) or told


def _changed_data(root: Path, pack: str | None, made_from: str | None) -> str | None:
    """Name both digests where the packed data here is not what a file was made from."""
    found = pack_digest(root / pack) if pack else None
    if found is None or made_from is None or found == made_from:
        return None
    return f"{_DATA}: {made_from[:16]} -> {found[:16]} ({pack} has other content)"
