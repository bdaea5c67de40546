"""The assembled page and the same checkpoint in the package, from what is in Git; and tasks that both compute."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstorder.data import glyphs, packs
from firstorder.method import evaluation
from firstorder.method.evaluation import Checkpoint
from firstorder.method.images import TaskImages
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.method.networks import make_network
from firstorder.method.training import classification_loss
from firstorder.records import checkpoints
from firstorder.settings import checks
from firstorder.upkeep import demo, dvc

ROOT = Path(__file__).parents[2]
EVALUATION = "reptile/omniglot-5way/1shot"
MODEL = Path("models/reptile/omniglot-5way/seed-0.safetensors")
OMNIGLOT = ROOT / "data/omniglot.npz"
NETWORK = make_network("omniglot", 5)
LEARNING_RATE = 0.001

Images = np.ndarray[Any, np.dtype[np.uint8]]  # [images, 28, 28], ink 0 and paper 1


@dataclass(frozen=True)
class Task:
    """Support images of the classes `labels`, and queries."""

    name: str
    support: Images
    labels: list[int]
    queries: Images


def project_with_checkpoint(folder: Path) -> Path:
    """Put the published checkpoint, its .dvc file and its records into a folder; return the checkpoint's path."""
    dvc_file = ROOT / f"{MODEL}.dvc"
    (tracked,) = dvc.read_dvc_file(dvc_file)
    path = folder / MODEL
    path.parent.mkdir(parents=True)
    shutil.copy(dvc.object_path(ROOT / "published", tracked.md5), path)
    shutil.copy(dvc_file, path.parent)
    for mode in ("inductive", "transductive"):
        cell = Path("results/cells") / EVALUATION / mode
        shutil.copytree(ROOT / cell, folder / cell)
    curve = Path("results/curves/adaptation") / EVALUATION
    shutil.copytree(ROOT / curve, folder / curve)
    return path


def wanted(root: Path, site: Path, evaluation: str = EVALUATION) -> demo.Demo:
    """Return what `firstorder demo` would assemble from a project's folder."""
    project = checks.load(ROOT / "params.yaml")
    return demo.Demo(root=root, project=project, evaluation=evaluation, seed=0, sources=ROOT / "demo", site=site)


def glyph_tasks() -> list[Task]:
    """Return tasks of glyphs with five, three and one classes, and several queries."""
    images = glyphs.draw(demo.GLYPHS)[:, :, 0]
    tasks = []
    for labels, rows, count in (([0, 1, 2, 3, 4], (0, 2, 4, 6, 8), 5), ([0, 2, 4], (1, 3, 5), 2), ([3], (7,), 1)):
        queries = [images[row, 7] for row in rows][:count]
        tasks.append(Task(f"glyphs, classes {labels}", images[list(rows), 0], labels, np.stack(queries)))
    return tasks


def omniglot_tasks() -> list[Task]:
    """Return two tasks of meta-test characters, where there is a pack of Omniglot; else none."""
    if not OMNIGLOT.exists():
        return []
    settings = checks.load(ROOT / "params.yaml").datasets["omniglot"]
    pool = packs.make_pools(packs.read_pack(OMNIGLOT)[0], settings, 0).meta_test[:, :, 0]
    rows = [list(range(start, start + 45, 9)) for start in (0, 200)]
    return [Task(f"Omniglot, characters {row}", pool[row, 0], [0, 1, 2, 3, 4], pool[row, 1]) for row in rows]


def read(path: Path, dtype: torch.dtype) -> Checkpoint:
    """Read the checkpoint in a precision."""
    found, _ = checkpoints.read(path, NETWORK)
    state = OptimiserState(found.state.second_moments.to(dtype), found.state.steps)
    return Checkpoint(found.parameters.to(dtype), state, found.about)


def tensors(images: Images, dtype: torch.dtype) -> torch.Tensor:
    """Return one lane of images: [1, images, 1, 28, 28]."""
    return torch.from_numpy(images[None, :, None]).to(dtype)


def inner_loop() -> InnerLoop:
    """Return the inner loop of the training."""
    return InnerLoop(classification_loss(NETWORK), "adam", LEARNING_RATE, NETWORK.adapted, logits=NETWORK.logits)


def expected(checkpoint: Checkpoint, task: Task, steps: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the package's logits [queries, 5] in both modes after some inner steps."""
    dtype, inner = checkpoint.parameters.dtype, inner_loop()
    support, query = tensors(task.support, dtype), tensors(task.queries, dtype)
    labels = torch.tensor([task.labels])
    adapted, _ = adapt(inner, checkpoint.parameters, checkpoint.state, [(support, labels)] * steps)
    found = evaluation.logits(inner, adapted, TaskImages([], support, query, labels))
    return {mode: logits[0].numpy() for mode, logits in found.items()}
