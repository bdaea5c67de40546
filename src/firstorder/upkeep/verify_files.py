"""Check what is too large for Git: archives, packed data sets, checkpoints.

A newcomer would get wrong: a mirror may hold Omniglot's archives zipped again, so those of another size than the
official ones are judged by the drawings in them. No torch: of a checkpoint the hash decides, and its header names it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firstorder.data import archives, omniglot, packs
from firstorder.errors import UserError
from firstorder.files import parse_json
from firstorder.progress import Track
from firstorder.records.cells import CellRecord
from firstorder.records.freshness import model_header
from firstorder.settings import CURVE, MODEL
from firstorder.upkeep.dvc import hash_of
from firstorder.upkeep.mismatches import Mismatch
from firstorder.upkeep.verify_records import Place, how_made

LARGEST_HEADER = 1 << 20


def check_archives(place: Place, track: Track) -> None:
    """Check the archives of Omniglot that are here: the official ones by MD5, others by their content."""
    folder = place.root / place.project.data_folder / "raw/omniglot"
    here = [archive for archive in omniglot.ARCHIVES if (folder / archive.name).exists()]
    if not here:
        place.findings.skipped["archives (not here)"] += 1
        return
    mirrored = []
    for archive in here:
        path = folder / archive.name
        place.findings.checked["archives"] += 1
        if path.stat().st_size != archive.bytes:
            mirrored.append(path)
        elif (found := hash_of(path, "md5")) != archive.md5:
            place.findings.differs(path, f"MD5 {archive.md5}", found, f"rm {path} && {_download(folder)}")
    if mirrored:
        _check_mirrored(place, mirrored, folder, whole=len(here) == len(omniglot.ARCHIVES), track=track)


def _check_mirrored(place: Place, paths: Sequence[Path], folder: Path, *, whole: bool, track: Track) -> None:
    try:
        for path in paths:
            for _ in archives.members(path):
                pass
        if whole:
            omniglot.make_pack(folder, track, omniglot.OFFICIAL)
    except UserError as error:
        again = f"rm {' '.join(map(str, paths))} && {_download(folder)}"
        place.findings.mismatches.append(Mismatch(paths[0], f"{error}; mend: {again}"))


def _download(folder: Path) -> str:
    return f"firstorder download --folder {folder}"


def check_packs(place: Place, sound: Sequence[CellRecord]) -> None:
    """Check every pack that is here: its content against its digest, its digest against the records made from it."""
    project = place.project
    for name in dict.fromkeys(project.dataset_name(dataset) for dataset in project.datasets):
        path = place.root / project.pack_path(name)
        if not path.exists():
            place.findings.skipped["packs (not here)"] += 1
            continue
        place.findings.checked["packs"] += 1
        making = "data" if project.datasets[name].source == "mini_imagenet" else "pack"
        source = " --source PATH" if making == "data" else ""
        known = place.findings.packs
        try:
            found = known.get(path.resolve()) or known.setdefault(path.resolve(), packs.read_pack(path)[1])
        except UserError as error:
            again = f"rm {path} && firstorder {making} {name}{source}{place.params}"
            place.findings.mismatches.append(Mismatch(path, f"{error}; mend: {again}"))
            continue
        others = [record for record in sound if record.dataset == name and record.data_digest != found]
        for digest in sorted({record.data_digest for record in others}):
            first = next(record for record in others if record.data_digest == digest)
            place.findings.differs(
                path,
                f"digest {digest[:16]}... as in the record {first.evaluation}/{first.mode} seed {first.seed}",
                f"{found[:16]}...",
                f"put the data set back that it was computed from, or compute again: "
                f"firstorder train {first.settings['evaluation']['training']} --seed {first.seed}{place.params}",
            )


def check_checkpoints(place: Place, sound: Sequence[CellRecord]) -> None:
    """Check every checkpoint that is here against its name and the SHA-256 that records and curves say it has."""
    claimed = _claimed(sound)
    models = place.root / "models"
    for path in sorted(models.rglob("seed-*.safetensors")):
        training, seed = path.parent.relative_to(models).as_posix(), int(path.stem.removeprefix("seed-"))
        place.findings.checked["checkpoints"] += 1
        about = model_header(path)
        expected = claimed.get((training, seed), {})
        run = how_made(place.root / CURVE.format(training=training, seed=seed))
        if "checkpoint_digest" in run:
            expected = {**expected, run["checkpoint_digest"]: "its curve"}
        found = hash_of(path, "sha256")
        is_of = f"training {about.get('training')} seed {about.get('seed')}" if about else "no whole checkpoint"
        mend = _train_again(place, training, seed)
        for digest, by in expected.items():
            if digest != found:
                place.findings.differs(path, f"SHA-256 {digest[:16]}... as in {by}", f"{found[:16]}... ({is_of})", mend)
        if not expected and (about.get("training"), about.get("seed")) != (training, seed):
            place.findings.differs(path, f"training {training} seed {seed}", is_of, mend)
        elif not expected:
            place.findings.skipped["checkpoints that no record names"] += 1


def _claimed(sound: Sequence[CellRecord]) -> Mapping[tuple[str, int], dict[str, str]]:
    """Map training and seed to the SHA-256s that records have of their checkpoint, each with one record's name."""
    claimed: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for record in sound:
        key = (record.settings["evaluation"]["training"], record.seed)
        claimed[key].setdefault(record.checkpoint_digest, f"the record {record.evaluation}/{record.mode}")
    return claimed


def is_checkpoint(path: Path) -> bool:
    """Say whether a file is a checkpoint of this package by its header: floating-point tensors of a training."""
    try:
        types = {entry["dtype"] for name, entry in _header(path).items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return "optimiser_steps" in model_header(path) and types <= {"F64", "F32", "F16", "BF16"}


def _header(path: Path) -> Any:
    """Read the header of a safetensors file: JSON whose length its first eight bytes tell."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return parse_json(file.read(length)) if length <= LARGEST_HEADER else {}


def _train_again(place: Place, training: str, seed: int) -> str:
    path = place.root / MODEL.format(training=training, seed=seed)
    if path.with_name(path.name + ".dvc").exists():
        return f"dvc pull --force {path}.dvc"
    if training not in place.project.trainings:
        return f"rm {path} (params.yaml has no such training)"
    evaluations = [name for name, entry in place.project.evaluations.items() if entry.training == training]
    verbs = [f"train {training}", *(f"evaluate {name}" for name in evaluations)]
    return " && ".join(f"firstorder {verb} --seed {seed}{place.params}" for verb in verbs)
