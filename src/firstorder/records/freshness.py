"""Compares recorded results with params.yaml and the packed data: each is fresh, or stale because of some change.

Time stamps are not used, because a clone or a pull sets them anew. A file is fresh if it was made with exactly the
settings that params.yaml resolves to now (numerics_version included), from data of the same content as the packed
data, and on the checkpoint that its training made last. What is not here, as in a fresh clone, is not compared.

Nothing here imports NumPy or torch, because Snakemake asks for every file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.files import MissingFileError
from firstorder.records import cells
from firstorder.records.headers import check_model, file_digest, model_header, pack_digest
from firstorder.records.placement import ANOTHERS, misplaced
from firstorder.settings import (
    ADAPTATION,
    ALPHABETS,
    CURVE,
    EXPANSION,
    INNER_PRODUCTS,
    MANIFOLD_POINTS,
    MODEL,
    MODES,
    RECORD,
    SINE_FITS,
    SINE_LOSSES,
    Mode,
    Project,
    digest,
    first_difference,
    lookup,
)

DONE, STALE, MISSING = "done", "stale", "missing"
UNFINISHED = "a process was killed while it replaced this file"
UNKNOWN = "nothing beside it says with which settings it was made"
UNSEALED = "its run file is gone or holds no seal, so nothing shows that it was not changed"
_DATA, _CHECKPOINT = "data_digest", "checkpoint_digest"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A file to be computed: its name and path, the settings it should be made with, and the command that makes it."""

    name: str
    about: str  # the cell, training or evaluation that it measures, or its path if it measures none
    path: str  # relative to the folder of params.yaml, like `pack`
    wanted: dict[str, Any]  # resolved settings
    wanted_digest: str = ""  # their digest
    command: str
    pack: str | None = None  # packed data that it depends on
    training: str | None = None  # the training whose model it is measured on, if any
    seed: int | None = None

    def __post_init__(self) -> None:
        """Add the digest of the settings unless it is known."""
        if not self.wanted_digest:
            object.__setattr__(self, "wanted_digest", digest(self.wanted))


def cell(project: Project, evaluation: str, mode: Mode, seed: int, like: Expected | None = None) -> Expected:
    """Return the expected record of a cell; `like` is another one of the same evaluation, whose settings it takes."""
    training = lookup(project.evaluations, evaluation, "evaluation").training
    return Expected(
        name=f"{evaluation}/{mode} seed {seed}",
        about=f"{evaluation}/{mode}",
        path=RECORD.format(evaluation=evaluation, mode=mode, seed=seed),
        wanted=like.wanted if like else project.settings_of_evaluation(evaluation),
        wanted_digest=like.wanted_digest if like else "",
        command=f"make cell CELL={evaluation}/{mode} SEED={seed}",
        pack=_pack(project, training),
        training=training,
        seed=seed,
    )


def curve(project: Project, training: str, seed: int, like: Expected | None = None) -> Expected:
    """Return the expected learning curve of a training; `like` is that of another seed, whose settings it takes."""
    return Expected(
        name=f"curve of {training} seed {seed}",
        about=training,
        path=CURVE.format(training=training, seed=seed),
        wanted=like.wanted if like else project.settings_of_training(training),
        wanted_digest=like.wanted_digest if like else "",
        command=f"firstorder train {training} --seed {seed}",
        pack=_pack(project, training),
    )


def adaptation(project: Project, evaluation: str, seed: int) -> Expected:
    """Return the expected accuracies of an evaluation against its inner steps."""
    wanted = project.settings_of_adaptation(evaluation)
    return _beside(project, evaluation, seed, verb="adaptation", path=ADAPTATION, wanted=wanted)


def alphabets(project: Project, evaluation: str, seed: int) -> Expected:
    """Return the expected errors by alphabet of an evaluation."""
    wanted = project.settings_of_alphabets(evaluation)
    return _beside(project, evaluation, seed, verb="alphabets", path=ALPHABETS, wanted=wanted)


def simulation(project: Project, path: str) -> Expected:
    """Return an expected file of Figure 1 or 2, or of section 5's expansion."""
    verb, wanted = {
        SINE_LOSSES: ("sine", project.settings_of_sine),
        SINE_FITS: ("sine", project.settings_of_sine),
        MANIFOLD_POINTS: ("manifolds", project.settings_of_manifolds),
        EXPANSION: ("theory", project.settings_of_theory),
    }[path]
    return Expected(name=path, about=path, path=path, wanted=wanted(), command=f"firstorder {verb}")


def inner_products(project: Project, training: str, seed: int) -> Expected:
    """Return the expected inner products of a training."""
    return Expected(
        name=f"inner products of {training} seed {seed}",
        about=training,
        path=INNER_PRODUCTS.format(training=training, seed=seed),
        wanted=project.settings_of_theory(training),
        command=f"firstorder inner-products {training} --seed {seed}",
        pack=_pack(project, training),
    )


def everything(project: Project) -> Iterator[Expected]:
    """Yield every file that is computed for params.yaml, cells first."""
    first = project.seeds[0]  # settings are resolved once for all seeds
    for evaluation in project.evaluations:
        like = cell(project, evaluation, MODES[0], first)
        for mode in MODES:
            yield from (cell(project, evaluation, mode, seed, like) for seed in project.seeds)
    for training in project.trainings:
        like = curve(project, training, first)
        yield from (curve(project, training, seed, like) for seed in project.seeds)
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


def difference(root: Path, expected: Expected, record: cells.CellRecord | None = None) -> str | None:
    """Name the first difference between how a file was made and how it should be; None if it is fresh or missing.

    A caller that has read its record passes it as `record`. Raises UserError if it was changed after it was recorded.
    """
    path = root / expected.path
    made: Mapping[str, Any]
    try:
        if path.suffix == ".json":
            record, run = cells.read_with_run(path) if record is None else (record, cells.read_run(path))
            made = {**vars(record), "evaluation": record.evaluation}
        else:
            made = run = cells.check_unedited(path, cells.CSV_FILE.read(path))
    except MissingFileError:
        return None
    except cells.UnfinishedError:
        return UNFINISHED
    if not cells.is_sealed(run):
        return UNSEALED
    return (
        misplaced(root, expected.path, made)
        or unlike(root, expected, made)
        or _another_checkpoint(root, expected, made)
    )


def unlike(root: Path, expected: Expected, made: Mapping[str, Any]) -> str | None:
    """Name the first difference in settings or data between how something was made and how it should be, or None."""
    if made.get("settings_digest") != expected.wanted_digest:
        return _changed_setting(made, expected.wanted)
    return _changed_data(root, expected.pack, made.get("data_digest"))


def state(root: Path, *files: Expected) -> str:
    """Return the state of files that are computed together: MISSING if one is missing, STALE if one is stale, or DONE.

    Raises UserError if a file was changed after it was recorded.
    """
    if not all((root / item.path).exists() for item in files):
        return MISSING
    return STALE if any(difference(root, item) is not None for item in files) else DONE


def since(difference: str) -> str:
    """Phrase a difference: what has changed since a stale file was made."""
    if difference in (UNKNOWN, UNFINISHED, UNSEALED) or difference.startswith(ANOTHERS):
        return difference
    of = {_DATA: "the data", _CHECKPOINT: "the checkpoint"}
    return f"{of.get(difference.partition(':')[0], 'params.yaml')} has changed since: {difference}"


def stale(root: Path, project: Project) -> list[tuple[Expected, str]]:
    """List the stale files below `root`, each with the first difference."""
    found = ((expected, difference(root, expected)) for expected in everything(project))
    return [(expected, what) for expected, what in found if what is not None]


def is_trained(root: Path, project: Project, training: str, seed: int) -> bool:
    """Say whether a model is there whose header names the present settings and data."""
    made = model_header(root / MODEL.format(training=training, seed=seed))
    fresh = made.get("training_digest") == digest(project.settings_of_training(training))
    return fresh and _changed_data(root, _pack(project, training), made.get("data_digest")) is None


def paths_to_rebuild(root: Path, project: Project, expected: Expected) -> list[str]:
    """Name the files to compute again for a stale one: itself and, if that is stale too, the model it needs.

    Raises UserError if another checkpoint is in the place of that model.
    """
    paths = [expected.path]
    if expected.training is not None and expected.seed is not None:
        model = MODEL.format(training=expected.training, seed=expected.seed)
        if (root / model).exists() and not is_trained(root, project, expected.training, expected.seed):
            check_model(root / model, expected.training, expected.seed)
            paths.append(model)
    return paths


def _another_checkpoint(root: Path, expected: Expected, made: Mapping[str, Any]) -> str | None:
    """Name both digests if something was measured on another checkpoint than its training's present one.

    That is the one that the run file of the curve names, or else the one that is here; one of other settings is none.
    """
    measured = made.get(_CHECKPOINT)
    if expected.training is None or measured is None:
        return None
    names = {"training": expected.training, "seed": expected.seed}
    run = cells.how_trained(root, expected.training, expected.seed or 0)
    if run and misplaced(root, CURVE.format(**names), run):
        run = {}  # that of another seed or training says nothing of this checkpoint
    present, by = run.get(_CHECKPOINT), "its curve's"
    same = run.get("settings_digest") == made.get("training_digest")
    if present is None:
        model, by = root / MODEL.format(**names), "the one that is here"
        about = model_header(model)
        wanted = {**names, "training_digest": made.get("training_digest")}
        same = {key: about.get(key) for key in wanted} == wanted
        present = file_digest(model) if same else None
    if not same or present in (None, measured):
        return None
    return f"{_CHECKPOINT}: {measured:.16} -> {present:.16} ({by})"


def _pack(project: Project, training: str) -> str:
    return project.pack_path(lookup(project.trainings, training, "training").dataset)


def _beside(project: Project, evaluation: str, seed: int, *, verb: str, path: str, wanted: dict[str, Any]) -> Expected:
    """Return an expected measurement of an evaluation that is not one of its cells."""
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


def _changed_setting(made: Mapping[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first setting that differs, or both digests if the settings themselves are not recorded."""
    if made.get("settings_digest") is None:
        return UNKNOWN
    digests = f"settings: {made['settings_digest']} -> {digest(wanted)} (of the old ones only this digest is recorded)"
    if not isinstance(made.get("settings"), dict):
        return digests
    # To JSON and back, as in the record, where tuples are lists.
    return first_difference(made["settings"], json.loads(json.dumps(wanted))) or digests


def _changed_data(root: Path, pack: str | None, made_from: str | None) -> str | None:
    """Name both digests if the packed data is not what the file was made from."""
    found = pack_digest(root / pack) if pack else None
    if found is None or made_from is None or found == made_from:
        return None
    return f"{_DATA}: {made_from[:16]} -> {found[:16]} ({pack} has other content)"
