"""Check the files that are too large for Git: archives, packed data sets, checkpoints.

A mirror may hold Omniglot's archives zipped again. Archives whose size differs from the official one are
therefore checked by the drawings they contain. No torch: a checkpoint is compared by its hash; its header says which
training and seed it belongs to.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from firstorder.data import archives, omniglot, packs
from firstorder.errors import UserError, reason
from firstorder.files import open_regular
from firstorder.progress import Track
from firstorder.records.cells import CSV_FILE, CellRecord, how_trained
from firstorder.records.headers import CHECKPOINT_FILE, LARGEST_HEADER, about_of, model_header, pulling, tensor_header
from firstorder.records.kept_files import KEPT_FILE, is_aside, read_counts, read_state
from firstorder.settings import MODEL
from firstorder.upkeep import dvc
from firstorder.upkeep.suspend import PATTERNS
from firstorder.upkeep.verify_records import Target


def check_archives(target: Target, track: Track) -> None:
    """Check the archives of Omniglot that are present: those of the official size by MD5, others by their content."""
    folder = target.root / target.project.data_folder / "raw/omniglot"
    here = [archive for archive in omniglot.ARCHIVES if (folder / archive.name).exists()]
    if not here:
        target.verification.skipped["archives (not here)"] += 1
        return
    mirrored = []
    for archive in here:
        path = folder / archive.name
        target.verification.checked["archives"] += 1
        if path.stat().st_size != archive.bytes:
            mirrored.append(path)
        elif (found := target.verification.hash_of(path, "md5")) not in (None, archive.md5):
            target.verification.differs(path, f"MD5 {archive.md5}", found, f"rm {path} && {_download(folder)}")
    if mirrored:
        _check_mirrored(target, mirrored, folder, whole=len(here) == len(omniglot.ARCHIVES), track=track)


def _check_mirrored(target: Target, paths: Sequence[Path], folder: Path, *, whole: bool, track: Track) -> None:
    try:
        for path in paths:
            for _ in archives.members(path):
                pass
        if whole:
            omniglot.make_pack(folder, track, omniglot.OFFICIAL)
    except UserError as error:
        target.verification.broken(paths[0], error, f"rm {' '.join(map(str, paths))} && {_download(folder)}")


def _download(folder: Path) -> str:
    return f"firstorder download --folder {folder}"


def check_packs(target: Target, valid: Sequence[CellRecord]) -> None:
    """Check each pack that is present: its content against its digest, and its digest against the valid records."""
    project = target.project
    for name in dict.fromkeys(project.dataset_name(dataset) for dataset in project.datasets):
        path = target.root / project.pack_path(name)
        if not path.exists():
            target.verification.skipped["packs (not here)"] += 1
            continue
        target.verification.checked["packs"] += 1
        known, settings = target.verification.packs, project.datasets[name]
        key = path.resolve(), str(settings.packing)
        try:
            found = known.get(key) or known.setdefault(key, packs.read_pack(path, settings)[1])
        except UserError as error:
            verb = f"data {name} --source PATH" if settings.is_yours else f"pack {name}"
            target.verification.broken(path, error, f"rm {path} && firstorder {verb}{target.params}")
            continue
        census = path.with_suffix(".census.csv")
        again = f"firstorder data {name} --source PATH{target.params}"
        try:
            if census.exists() and f"digest {found};" not in CSV_FILE.read_text(census):
                target.verification.differs(census, f"digest {found[:16]}... as in {path.name}", "another", again)
        except UserError as error:
            target.verification.broken(census, error, again)
        # One mismatch for each other digest, naming the first record that states it.
        others = {record.data_digest: record for record in reversed(valid) if record.dataset == name}
        for digest, first in sorted(others.items()):
            if digest != found:
                target.verification.differs(
                    path,
                    f"digest {digest[:16]}... as in the record {first.evaluation}/{first.mode} seed {first.seed}",
                    f"{found[:16]}...",
                    "restore the data set that the record was computed from, or compute the record again: "
                    f"firstorder train {first.settings['evaluation']['training']} --seed {first.seed}{target.params}",
                )


def check_checkpoints(target: Target, valid: Sequence[CellRecord]) -> None:
    """Check each checkpoint that is present against the SHA-256 that records and its curve's run file state for it.

    A checkpoint for which none is stated is only compared with its path: the training and seed in its header.
    """
    stated = _stated(valid)
    models = target.root / "models"
    for path in sorted(models.rglob("seed-*.safetensors")):
        if not (number := path.stem.removeprefix("seed-")).isdecimal():
            target.verification.skipped["checkpoints of no seed"] += 1
            continue
        training, seed = path.parent.relative_to(models).as_posix(), int(number)
        target.verification.checked["checkpoints"] += 1
        about = model_header(path)
        expected = stated.get((training, seed), {})
        run = how_trained(target.root, training, seed)
        if "checkpoint_digest" in run:
            expected = {**expected, run["checkpoint_digest"]: "its curve"}
        if (found := target.verification.hash_of(path, "sha256", CHECKPOINT_FILE)) is None:
            continue
        is_of = f"training {about.get('training')} seed {about.get('seed')}" if about else "no whole checkpoint"
        fix = _train_again(target, training, seed)
        for digest, by in expected.items():
            if digest != found:
                target.verification.differs(
                    path, f"SHA-256 {digest[:16]}... as in {by}", f"{found[:16]}... ({is_of})", fix
                )
        if expected and set(expected) == {found}:
            target.verification.sound.add(path.resolve())
        if not expected and (about.get("training"), about.get("seed")) != (training, seed):
            target.verification.differs(path, f"training {training} seed {seed}", is_of, fix)
        elif not expected:
            target.verification.skipped["checkpoints that no record names"] += 1


def check_suspended(target: Target) -> None:
    """Check states and counts in unfinished/ against their digests, checkpoints against the curve's run file."""
    below = target.root / "unfinished"
    for path in sorted(path for pattern in PATTERNS for path in below.rglob(pattern)):
        target.verification.checked["suspended states, counts and checkpoints"] += 1
        try:
            content = KEPT_FILE.read(path)
            if path.name.startswith("checkpoint-"):
                training, seed = path.parent.relative_to(below).as_posix(), path.stem.rpartition("-")[2]
                found = hashlib.sha256(content).hexdigest()
                if how_trained(target.root, training, seed).get("checkpoint_digest") != found:
                    raise ValueError("its SHA-256 is not the one in its curve's run file")
            else:
                about = (read_counts if path.suffix == ".json" else read_state)(content)
                _check_own(path.relative_to(below), about.get("of"))
        except (UserError, ValueError) as error:
            target.verification.differs(path, "a whole suspended file", reason(error, path), f"rm {path}", in_git=True)


def _check_own(path: Path, made: object) -> None:
    """Raise ValueError if a suspended state or counts are those of another training or seed than their path says."""
    if is_aside(path) or not isinstance(made, dict):
        return  # the oldest do not say it
    own = {"seed": path.stem.rpartition("-")[2]}
    if path.suffix == ".safetensors" and not path.parts[0].startswith("."):
        own["training"] = path.parent.as_posix()
    for key, wanted in own.items():
        if str(made.get(key)) != wanted:
            raise ValueError(f"it is that of {key} {made.get(key)!s:.80}, expected {wanted}")


def _stated(valid: Sequence[CellRecord]) -> Mapping[tuple[str, int], dict[str, str]]:
    """Map (training, seed) to each SHA-256 that records state for the checkpoint, with the name of one such record."""
    stated: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for record in valid:
        key = (record.settings["evaluation"]["training"], record.seed)
        stated[key].setdefault(record.checkpoint_digest, f"the record {record.evaluation}/{record.mode}")
    return stated


def is_checkpoint(path: Path) -> bool:
    """Say whether a file's header is that of a checkpoint of this package, with floating-point tensors only."""
    try:
        with open_regular(path) as file:
            start = file.read(8 + LARGEST_HEADER)
        types = {entry["dtype"] for name, entry in tensor_header(start).items() if name != "__metadata__"}
        return "optimiser_steps" in about_of(start) and types <= {"F64", "F32", "F16", "BF16"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _train_again(target: Target, training: str, seed: int) -> str:
    """Return the command that restores a checkpoint: from DVC if it is tracked, else by training and evaluating."""
    path = target.root / MODEL.format(training=training, seed=seed)
    if dvc.restores(path.with_name(path.name + ".dvc")):
        return pulling(path)
    if training not in target.project.trainings:
        return f"rm {path} (params.yaml has no such training)"
    evaluations = [name for name, entry in target.project.evaluations.items() if entry.training == training]
    verbs = [f"train {training}", *(f"evaluate {name}" for name in evaluations)]
    return " && ".join(f"firstorder {verb} --seed {seed}{target.params}" for verb in verbs)
