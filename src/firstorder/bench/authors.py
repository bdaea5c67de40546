"""The authors' code as a contender: a checkout of openai/supervised-reptile, which needs TensorFlow 2.15.

Nothing of it is in this project. authors_worker.py runs its model and its Reptile class in a process with a Python of
their own, on images of noise, with the sizes of the workload.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.bench.allocator import KEPT_BYTES
from firstorder.bench.workloads import PoolSize, Workload
from firstorder.method.architectures import ARCHITECTURES

SCRIPT = Path(__file__).with_name("authors_worker.py")
MODELS = {"omniglot": "OmniglotModel", "mini_imagenet": "MiniImageNetModel"}


@dataclass(frozen=True)
class AuthorsCode:
    """Where the authors' code is, and a Python that has TensorFlow 2.15."""

    folder: Path
    python: str = sys.executable


def unsuited(code: AuthorsCode | None, workload: Workload) -> str | None:
    """Return why the authors' code cannot run a workload; None if it can."""
    settings = workload.settings
    if settings.algorithm != "reptile" or settings.second_moments != "carried" or settings.network not in MODELS:
        return "is timed with Reptile only, as in their README"
    if settings.inner_beta1:
        return "has beta1 = 0 in its code"
    if code is None:
        return "give a checkout of openai/supervised-reptile, --with-authors PATH"
    if not (code.folder / "supervised_reptile/reptile.py").is_file():
        return f"{code.folder} has no supervised_reptile/reptile.py, expected a checkout of openai/supervised-reptile"
    return None


def command(code: AuthorsCode, workload: Workload, pool: PoolSize, threads: int, descriptor: int) -> list[str]:
    """Return the command of the process that runs a workload; `descriptor` is of the connection that it answers on."""
    settings, evaluation = workload.settings, workload.evaluation
    architecture = ARCHITECTURES[settings.network]
    loop = evaluation or settings
    arguments: dict[str, Any] = {
        "num_classes": settings.way,
        "num_shots": settings.train_shot if evaluation is None else evaluation.shot,
        "inner_batch_size": loop.inner_batch_size,
        "inner_iters": loop.inner_steps,
        "replacement": evaluation is None and settings.sampling == "replacement",
    }
    if evaluation is None:
        arguments |= {"meta_step_size": settings.outer_step_size, "meta_batch_size": settings.meta_batch_size}
    wanted = {
        "folder": str(code.folder.absolute()),
        "model": MODELS[settings.network],
        "learning_rate": settings.inner_learning_rate,
        "classes": pool.classes,
        "class_images": pool.class_images,
        "image": [architecture.size] * 2 + ([] if architecture.channels == 1 else [architecture.channels]),
        "threads": threads,
        "does": "train_step" if evaluation is None else "evaluate",
        "arguments": arguments,
    }
    return [code.python, str(SCRIPT), str(descriptor), json.dumps(wanted)]


def environment(threads: int) -> dict[str, str]:
    """Return the environment of that process: no GPU, few messages, and the others' allocator settings."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
        "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
        "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
    }
