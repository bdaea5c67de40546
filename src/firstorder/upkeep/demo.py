"""The page that one draws for: the sources of demo/ with a published checkpoint, in a folder that works offline.

The page is plain JavaScript that a browser also opens from a folder, so weights and glyphs become scripts. All bits of
the checkpoint are kept: parameters and second moments as 32-bit floats, the first byte of each, then the second, and so
on (like bytes compress better), compressed with zlib and written in base 85.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder import settings
from firstorder.data import glyphs
from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.method.architectures import BLOCKS
from firstorder.records import cells
from firstorder.records.headers import CHECKPOINT_FILE, about_of, pulling, tensor_header
from firstorder.settings import ADAPTATION, MODEL, MODES, RECORD, Project
from firstorder.upkeep import dvc

NETWORK = "omniglot"  # the only network that demo/network.js computes
SECOND_MOMENTS = "second_moments."
MOST_BYTES = 1_000_000  # of the script with the weights
SUFFIXES = (".html", ".css", ".js")
# Code points of the glyphs to choose from, and how many drawings of each.
GLYPHS = (0x10D3, 0x10E5, 0x5D0, 0x5E9, 0x3BE, 0x3A8, 0x42E, 0x416, 0x57E, 0x540, 0x2D63, 0x2D30, 0x140A, 0x14C7)
DRAWINGS = 4


@dataclass(frozen=True)
class Demo:
    """What to assemble: the project's folder, an evaluation whose checkpoint to use, the sources, and where to."""

    root: Path
    project: Project
    evaluation: str
    seed: int
    sources: Path
    site: Path


def assemble(demo: Demo) -> list[str]:
    """Write the page and return lines that say what was written.

    Raises UserError if the checkpoint is missing, is not the one that DVC names, or has another network.
    """
    sources = sorted(path for path in demo.sources.glob("*") if path.suffix in SUFFIXES)
    if not sources:
        raise UserError(f"{demo.sources}: no page there; expected the repository's folder demo")
    made = {"weights.js": _script("CHECKPOINT", checkpoint(demo)), "glyphs.js": _script("GLYPHS", drawn_glyphs())}
    if (size := len(made["weights.js"])) >= MOST_BYTES:
        raise UserError(f"weights.js has {size:,} bytes, expected fewer than {MOST_BYTES:,}")
    made |= {path.name: path.read_text(encoding="utf-8") for path in sources}
    for name, text in made.items():
        with replacing(demo.site / name) as part:
            part.write_text(text, encoding="utf-8")
    return [f"{demo.site / 'index.html'}: open it in a browser; its weights have {size:,} bytes"]


def checkpoint(demo: Demo) -> dict[str, Any]:
    """Return what the page must know of the checkpoint: its weights, how to adapt it, and its recorded accuracy."""
    evaluation = settings.lookup(demo.project.evaluations, demo.evaluation, "evaluation")
    training = demo.project.trainings[evaluation.training]
    if training.network != NETWORK or training.inner_optimiser != "adam" or training.inner_beta1:
        raise UserError(
            f"{demo.evaluation}: the page computes network {NETWORK} with Adam and beta1 = 0 only; name another one"
        )
    path = demo.root / MODEL.format(training=evaluation.training, seed=demo.seed)
    content = CHECKPOINT_FILE.read(path)
    if not dvc.names(path):
        raise UserError(f"{path}: not the published checkpoint; get it back: {pulling(path)}")
    digest = hashlib.sha256(content).hexdigest()
    return {
        "training": evaluation.training,
        "seed": demo.seed,
        "digest": digest,
        "way": training.way,
        "learningRate": training.inner_learning_rate,
        "innerSteps": evaluation.inner_steps,
        "trainedSteps": training.inner_steps,
        "steps": about_of(content)["optimiser_steps"],
        "measured": _measured(demo, digest),
        "along": _along(demo, digest),
        "values": packed(content),
    }


def packed(content: bytes) -> str:
    """Return a checkpoint's parameters, then its second moments, in the network's order, as text."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = tensor_header(content)
    kinds = ("kernel", "scale", "shift")
    layers = {"kernel": "convolution", "scale": "normalisation", "shift": "normalisation"}
    names = [f"{layers[kind]}{block}.{kind}" for block in range(1, BLOCKS + 1) for kind in kinds]
    names += ["dense.kernel", "dense.bias"]
    spans = [header[prefix + name]["data_offsets"] for prefix in ("", SECOND_MOMENTS) for name in names]
    values = b"".join(content[start + first : start + end] for first, end in spans)
    planes = b"".join(values[byte::4] for byte in range(4))
    return base64.b85encode(zlib.compress(planes, 9)).decode()


def _measured(demo: Demo, digest: str) -> dict[str, Any]:
    """Return the recorded accuracy, a fraction, and its tasks for each mode; only what this checkpoint reached."""
    found: dict[str, Any] = {}
    for mode in MODES:
        path = demo.root / RECORD.format(evaluation=demo.evaluation, mode=mode, seed=demo.seed)
        record = cells.read_record(path) if path.exists() else None
        if record is not None and record.checkpoint_digest == digest:
            counts = record.correct_histogram
            correct = sum(answers * tasks for answers, tasks in enumerate(counts))
            found[mode] = {"accuracy": correct / (record.tasks * (len(counts) - 1)), "tasks": record.tasks}
    return found


def _along(demo: Demo, digest: str) -> list[dict[str, Any]]:
    """Return the recorded accuracies after several numbers of inner steps; empty if not of this checkpoint."""
    path = demo.root / ADAPTATION.format(evaluation=demo.evaluation, seed=demo.seed)
    if not path.exists():
        return []
    content = cells.CSV_FILE.read(path)
    if cells.check_unedited(path, content).get("checkpoint_digest") != digest:
        return []
    return [
        {
            "step": int(row["inner_steps"]),
            "mode": row["mode"],
            "tasks": int(row["tasks"]),
            "accuracy": float(row["accuracy"]),
        }
        for row in csv.DictReader(content.decode().splitlines())
    ]


def drawn_glyphs() -> list[dict[str, Any]]:
    """Draw the glyphs to choose from: a name, and images as 784 characters each, 0 ink and 1 paper."""
    images = glyphs.draw(GLYPHS)[:, :DRAWINGS, 0]
    return [
        {
            "name": unicodedata.name(chr(code_point)).capitalize(),
            "images": ["".join(map(str, image.ravel())) for image in drawings],
        }
        for code_point, drawings in zip(GLYPHS, images, strict=True)
    ]


def _script(name: str, value: Any) -> str:
    """Return a script that defines a constant."""
    return f'// Written by `make demo`.\n"use strict";\n\nconst {name} = {json.dumps(value, sort_keys=True)};\n'
