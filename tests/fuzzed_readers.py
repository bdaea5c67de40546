"""What is fuzzed: one function for each kind of file that the package reads, given bytes that anybody may have made.

A reader may refuse bytes with a UserError of one line, or set a file aside. Any other exception is a crash. Where a
digest or checksum would keep nearly all bytes out, the function puts the right one in, as somebody who lies would.
tests/test_fuzzed_readers.py tries a few bytes in the normal run, tools/fuzz.py many, guided by coverage.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import yaml

from firstorder.cli.session import Session
from firstorder.data import (
    archives,
    image_files,
    mini_imagenet_lists,
    mini_imagenet_sources,
    omniglot,
    packs,
    safe_pickle,
)
from firstorder.errors import UserError
from firstorder.files import parse_json
from firstorder.method import training
from firstorder.records import cells, checkpoints, counts, freshness, headers, row_files, states
from firstorder.records.counts import CountsFile, Whole
from firstorder.report.benchmark import performance
from firstorder.report.claims import paper
from firstorder.report.read import accuracies, curves, published
from firstorder.report.text import why
from firstorder.settings import CURVE, MODES, RECORD, DatasetSettings, Project, checks, columns, digest
from firstorder.upkeep import dvc, estimates, mismatches, plan, plan_text, verify
from firstorder.upkeep.costs import Work
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, tiny_pack, write_params
from tests.fuzzing import BETWEEN, Fuzzed

ROOT = Path(__file__).parents[1]


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _raw(read: Callable[[Path], object], name: str) -> Callable[[Path, bytes], object]:
    return lambda folder, content: read(_written(folder / name, content))


# --- A project with results ---


@cache
def project(folder: Path) -> Project:
    """Return a project whose folder has a pack, a record, a curve and their run files."""
    values = copy.deepcopy(TINY_PARAMS) | {"seeds": [0]}
    loaded = checks.load(write_params(folder, values))
    packs.write_pack(folder / loaded.pack_path("omniglot"), tiny_pack(18))
    return loaded


def _record(folder: Path) -> cells.CellRecord:
    digests = dict.fromkeys(("data_digest", "training_digest", "checkpoint_digest"), "0" * 16)
    return cells.make_record(project(folder), cells.Cell(EVALUATION, "inductive", 0), digests, (2, 0, 0, 5, 0, 5))


def _curve_text() -> str:
    rows = [
        (step, pool, mode, 1, 4, 0.5, 0.1) for step in (4, 6) for pool in ("meta-train", "meta-test") for mode in MODES
    ]
    return row_files.rows_text(columns.CURVE, rows)


def _curve_run(folder: Path) -> dict[str, object]:
    made = cells.made_with(project(folder).settings_of_training(TRAINING))
    return {"training": TRAINING, "seed": 0, "seconds": 1.5, "machine": "x", "device": "cpu", "legs": [], **made}


def _paper(folder: Path) -> Path:
    """Return the paper's numbers without its claims, which take long to read."""
    return _written(folder / "paper/published.csv", _of("paper/published.csv")()[0])


def _results(folder: Path, record: bytes, record_run: bytes, curve: bytes, curve_run: bytes) -> None:
    """Write a record and a curve whose digests and seals agree, and read them with all that reads results."""
    loaded = project(folder)
    of_record = folder / RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0)
    of_curve = folder / CURVE.format(training=TRAINING, seed=0)
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        values = parse_json(record)
        values["settings_digest"] = digest(values["settings"])
        record = json.dumps(values).encode()
    for path, content, run in ((of_record, record, record_run), (of_curve, curve, curve_run)):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            run = cells.run_text(cells.sealed(parse_json(run), content)).encode()
        _written(path, content)
        _written(path.with_suffix(".run.json"), run)
    device = plan.Device("cpu", "x")
    readers: list[Callable[[], object]] = [
        lambda: verify.verify({folder: loaded}),
        lambda: freshness.stale(folder, loaded),
        lambda: plan_text.describe(plan.make(folder, device, project=loaded)),
        lambda: why.explain(folder, loaded, f"{EVALUATION}/inductive", [0], _paper(folder)),
        lambda: accuracies.frame(accuracies.fresh_records(folder, loaded)),
        lambda: curves.joined(folder, loaded, TRAINING),
        lambda: curves.final_accuracies(folder, loaded, TRAINING),
    ]
    try:
        cells.read_record(of_record)
    except UserError:
        readers = readers[:2]  # all others begin with this one
    with mock.patch.object(mismatches, "restoring", lambda path, otherwise: otherwise):  # without Git, which is slow
        for read in readers:
            with contextlib.suppress(UserError):
                read()


def _records(folder: Path, content: bytes) -> None:
    run, curve = json.dumps({"seconds": 1.0}).encode(), _curve_text().encode()
    _results(folder, content, run, curve, json.dumps(_curve_run(folder)).encode())
    cells.read_record(_written(folder / "seed-0.json", content))


def _run_files(folder: Path, content: bytes) -> None:
    record, curve = _record(folder).to_json().encode(), _curve_text().encode()
    _results(folder, record, content, curve, content)
    _written(folder / "seed-0.run.json", content)
    cells.read_run(folder / "seed-0.csv")


def _csvs(folder: Path, content: bytes) -> None:
    record = _record(folder).to_json().encode()
    _results(folder, record, b'{"seconds": 1.0}', content, json.dumps(_curve_run(folder)).encode())
    published.read(_written(folder / "published.csv", content))


def _benchmarks(folder: Path, content: bytes) -> None:
    path = _written(folder / "results/bench/x.json", content)
    found = estimates.read(folder, "cpu", "x")
    if found is not None:
        for speed in estimates.speeds(found, "").of.values():
            speed.seconds(Work("W1", 1.0))
    result = performance.read(path)
    performance.rates(result), performance.scaling(result)


# --- Files of tensors: a header that anybody may have written, before tensors that fit it or not ---


def _tensor_file(folder: Path, header: bytes, size: int) -> Path:
    header += b" " * (-len(header) % 8)
    return _written(folder / "seed-0.safetensors", struct.pack("<Q", len(header)) + header + bytes(size))


def _header(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip()


@cache
def _problem(folder: Path) -> training.Problem:
    project(folder)
    return Session(folder / "params.yaml", requested_engine="plain").problems(TRAINING, [0])[0]


def _checkpoints(folder: Path, content: bytes) -> None:
    path = _tensor_file(folder, content, 8 * _problem(folder).network.parameters)
    headers.model_header(path)
    checkpoint, _ = checkpoints.read(path, _problem(folder).network)
    checkpoints.check_made_of(checkpoint, path, _problem(folder), {})


def _states(folder: Path, content: bytes) -> None:
    path = _tensor_file(folder, content, 8 * _problem(folder).network.parameters + 8)
    with contextlib.suppress(ValueError):
        about, tensors = checkpoints.parse(path.read_bytes())
        states.write_sealed(path, tensors, {key: value for key, value in about.items() if key != "sha256"})
    keeper = states.StateFile(path, ("x",))
    if (state := keeper.load(_problem(folder))) is not None:
        keeper.legs(state)
        row_files.rows_text(columns.CURVE, state.curve)


def _counts(folder: Path, content: bytes) -> None:
    with contextlib.suppress(ValueError, AttributeError):
        kept = parse_json(content)
        content = (
            json.dumps({**kept, "sha256": counts.counts_digest(kept)}).encode() if isinstance(kept, dict) else content
        )
    CountsFile(_written(folder / "counts.json", content), "x", Whole(tasks=6, queries=5, lanes=3)).load()


def _seed_headers(folder: Path) -> tuple[bytes, bytes]:
    """Return the headers of a whole checkpoint and of a whole state."""
    from firstorder.method.evaluation import Checkpoint
    from firstorder.method.inner_loop import OptimiserState

    problem = _problem(folder)
    state = training.start(problem)
    path = folder / "whole.safetensors"
    steps = problem.settings.outer_steps * problem.settings.inner_steps_taken
    optimiser = OptimiserState(state.optimiser.second_moments, steps)
    about = {"training": TRAINING, "seed": 0}
    checkpoints.write(path, problem.network, Checkpoint(state.parameters, optimiser, about))
    first = _header(path)
    states.StateFile(path, ("x",)).save(state)
    return first, _header(path)


# --- Data ---


def _zipped(path: Path, members: Iterator[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(_written(path, b""), "w", compression) as archive:
        for name, content in members:
            archive.writestr(name.replace("\0", "") or "x", content)
    return path


def _packs(folder: Path, content: bytes) -> None:
    parts = zip(packs.ARRAYS, content.split(BETWEEN), strict=False)
    path = _zipped(folder / "x.npz", ((f"{name}.npy", part) for name, part in parts), zipfile.ZIP_STORED)
    headers.pack_digest(path)
    packs.read_pack(path, DatasetSettings(source="mini_imagenet"))


def _archives(folder: Path, content: bytes) -> None:
    with contextlib.suppress(UserError):
        _images_of(_written(folder / "raw.zip", content))
    parts = [part.partition(b"\n") for part in content.split(BETWEEN)]
    _images_of(_zipped(folder / "images.zip", ((name.decode("latin1"), inside) for name, _, inside in parts)))


def _images_of(path: Path) -> None:
    for read in (archives.members, headers.pack_digest):
        with contextlib.suppress(UserError):
            list(read(path) or ())
    with mini_imagenet_sources.opened(path, {"n01532829": "train"}) as listing:
        for image in listing.images:
            with contextlib.suppress(image_files.ImageFaultError):
                found = image.content()
                image_files.decode(found) if isinstance(found, bytes) else None


def _images(folder: Path, content: bytes) -> None:
    with contextlib.suppress(UserError):
        omniglot._decode(content, "a drawing")
    for image in (content, _with_checksums(content)):
        try:
            image_files.decode(image)
        except image_files.ImageFaultError as fault:
            if not str(fault).isprintable():
                raise UserError(str(fault)) from None


def _with_checksums(png: bytes) -> bytes:
    """Return a PNG with the right checksum behind each of its parts."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        end = place + 8 + min(int.from_bytes(png[place : place + 4], "big"), len(png) - place - 12)
        inside = png[place + 4 : end]
        parts.append(struct.pack(">I", len(inside) - 4) + inside + struct.pack(">I", zlib.crc32(inside)))
        place = end + 4
    return b"".join(parts)


def _dvc(folder: Path, content: bytes) -> None:
    file, *configs = content.split(BETWEEN)
    for path, text in zip((".dvc/config", ".dvc/config.local"), [*configs, b"", b""], strict=False):
        _written(folder / path, text)
    _written(folder / "x.safetensors.dvc", file)
    with mock.patch.object(mismatches, "restoring", lambda path, otherwise: otherwise):
        verify.check_repository(folder, mismatches.Verification())
    dvc.read_dvc_file(folder / "x.safetensors.dvc")
    dvc.remote(folder)


def _claims(folder: Path, content: bytes) -> None:
    paper.read(_written(folder / "claims.yaml", content), published.read(ROOT / "paper/published.csv"))


# --- Whole files to start from ---


def _of(*paths: str) -> Callable[[], list[bytes]]:
    return lambda: [(ROOT / path).read_bytes() for path in paths]


def _seeds_of_results() -> tuple[list[bytes], list[bytes], list[bytes]]:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    record = _record(folder).to_json().encode()
    return [record], [json.dumps(_curve_run(folder)).encode()], [_curve_text().encode()]


def _seeds_of_tensors(which: int) -> Callable[[], list[bytes]]:
    import tempfile

    return lambda: [_seed_headers(Path(tempfile.mkdtemp()))[which]]


def _some_claims() -> list[bytes]:
    """Return a few claims of each kind, as all of them take long to read."""
    whole = yaml.safe_load(_of("paper/claims.yaml")()[0])
    for section, entries in whole.items():
        if isinstance(entries, dict) and section != "delta_points":
            kinds = {
                str(entry.get("kind")) if isinstance(entry, dict) else name: name for name, entry in entries.items()
            }
            whole[section] = {name: entries[name] for name in kinds.values()}
    return [yaml.safe_dump(whole).encode()]


def _counts_seed() -> list[bytes]:
    legs = [{"tasks": 3, "seconds": 1.0}]
    kept = {"format": 1, "identity": "x", "counts": {mode: [1, 5, 0] for mode in MODES}, "legs": legs}
    return [json.dumps(kept).encode()]


def _pickles() -> list[bytes]:
    images = np.zeros((2, 3, 4, 3), np.uint8)
    content = {
        "image_data": images,
        "class_dict": {"n01532829": [0, 1]},
        "more": (None, True, 2**80, 1.5, "é", b"\xff"),
    }
    return [pickle.dumps(content, protocol) for protocol in range(6)]


def _npys() -> list[bytes]:
    pack = packs.Pack(np.ones((2, 3, 1, 4, 4), np.uint8), ("a", "b"), 1, (2, 3), "nearest", "mini_imagenet")
    arrays = (pack.images, pack.class_names, pack.scale, pack.digest(), pack.counts, pack.resize, pack.source)
    files = []
    for array in arrays:
        file = io.BytesIO()
        np.save(file, np.array(array))
        files.append(file.getvalue())
    return [BETWEEN.join(files)]


def _drawings() -> list[bytes]:
    from PIL import Image

    made = []
    for mode, form in (("1", "PNG"), ("RGB", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("L", "JPEG")):
        file = io.BytesIO()
        Image.new(mode, (105, 105)).save(file, form)
        made.append(file.getvalue())
    return made


def _archived() -> list[bytes]:
    png = _drawings()[1]
    return [BETWEEN.join(b"%s\n%s" % (name, png) for name in (b"n01532829/a.png", b"n01532829/b.jpg"))]


DVC = (
    b"outs:\n- md5: " + b"0a" * 16 + b"\n  size: 3\n  hash: md5\n  path: x.safetensors\n  push: false\n" + BETWEEN
    + b"[core]\n    remote = r\n['remote \"r\"']\n    url = s3://bucket\n" + BETWEEN + b"[cache]\n    dir = c\n"
)  # fmt: skip
READERS: dict[str, Fuzzed] = {
    "settings": Fuzzed(
        _raw(checks.load, "params.yaml"), lambda: [yaml.safe_dump(TINY_PARAMS).encode(), *_of("quick/params.yaml")()]
    ),
    "claims": Fuzzed(_claims, _some_claims),
    "records": Fuzzed(_records, lambda: _seeds_of_results()[0]),
    "run files": Fuzzed(_run_files, lambda: _seeds_of_results()[1]),
    "csv": Fuzzed(_csvs, lambda: [*_seeds_of_results()[2], *_of("paper/published.csv")()]),
    "benchmarks": Fuzzed(_benchmarks, _of("results/bench/amd-epyc-family-25-model-17-2-cores.json")),
    "checkpoints": Fuzzed(_checkpoints, _seeds_of_tensors(0)),
    "states": Fuzzed(_states, _seeds_of_tensors(1)),
    "counts": Fuzzed(_counts, _counts_seed),
    "packs": Fuzzed(_packs, _npys),
    "archives": Fuzzed(_archives, _archived),
    "images": Fuzzed(_images, _drawings),
    "lists": Fuzzed(
        _raw(mini_imagenet_lists.read_names, "list.csv"), lambda: [b"filename,label\nn0153282900000005.jpg,n01532829\n"]
    ),
    "pickles": Fuzzed(_raw(safe_pickle.read, "x.pkl"), _pickles),
    "dvc": Fuzzed(_dvc, lambda: [DVC]),
}
