"""Whether an engine for a GPU shows what it should: two outer steps on made-up images, beside those of `Plain`.

The first use of an engine for a network on a device compares them. That it passed is kept in the user's cache, under
everything that the outcome depends on: the engine's source, the settings, the device and torch. A failure is not kept,
as its cause may have been another program on the card.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from firstorder.engines.graph import schedule
from firstorder.engines.graph.outer_step import OuterStep, captured
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.engines.native import compiled
from firstorder.errors import UserError, one_line
from firstorder.files import replacing
from firstorder.method import training
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.images import ImagePool
from firstorder.method.inner_loop import Engine, OptimiserState, Plain
from firstorder.method.training import Problem, TrainingState
from firstorder.settings import TrainingSettings, resolved
from firstorder.settings.engines import GRAPH

STEPS = 2  # outer steps
TASKS, INNER_STEPS, CLASSES = 2, 3, 4  # at most that many, and so many more classes than ways
# The distance from Plain that rounding explains, as a part of the change of the parameters. One sign of a rectifier
# that rounding decides moves a gradient by 0.25 % (docs/evidence.md); a wrong formula by tens of percent.
TOLERANCE = {None: 0.02, "tf32": 0.1, "bfloat16": 0.5}
_FAILURES = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, UserError, ValueError)


def reason(kind: str, settings: TrainingSettings, device: torch.device) -> str | None:
    """Say why engine `kind` (graph or lanes) is not to be used for a training on a device; None if it passed.

    The outer steps are those of the training with fewer tasks and inner steps, from second moments that are not near
    zero, where Adam would turn rounding into whole steps.
    """
    small = smaller(settings)
    kept = _kept(kind, small, device)
    if kept is not None and kept.exists():
        return None
    try:
        distance = _distance(kind, small, device)
    except _FAILURES as error:
        return one_line(str(error).partition("\n")[0])[:200] or type(error).__name__
    if not distance <= TOLERANCE[settings.precision]:
        return f"its outer steps differ from those of plain by {distance:.1%}"
    if kept is not None:
        with replacing(kept) as part:
            part.write_text(json.dumps({"distance": distance}) + "\n", encoding="utf-8")
    return None


def smaller(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings of a training with few tasks and inner steps; what is not trained is tried as Reptile."""
    return dataclasses.replace(
        settings,
        algorithm="reptile" if settings.algorithm == "untrained" else settings.algorithm,
        outer_steps=max(settings.outer_steps, STEPS),
        meta_batch_size=min(settings.meta_batch_size, TASKS),
        inner_steps=min(settings.inner_steps, INNER_STEPS),
    )


def _distance(kind: str, settings: TrainingSettings, device: torch.device) -> float:
    """Return how far an engine ends from Plain, as a part of the change."""
    plain = _problem(dataclasses.replace(settings, precision=None), device, Plain())
    engine = LanesEngine(settings.network, settings.way, precision=settings.precision or "float32")
    problem = dataclasses.replace(plain, settings=settings, engine=engine)
    begin, expected = _begin(plain), _begin(plain)
    for _ in range(STEPS):
        training.outer_step(plain, plain.inner, expected)
    found = _captured_steps(problem, engine) if kind == GRAPH else _steps(problem)
    change = (expected.parameters - begin.parameters).norm()
    return float((found - expected.parameters).norm() / change.clamp(min=1e-12))


def _steps(problem: Problem) -> Tensor:
    """Take the outer steps one operation after another; return phi [1, parameters]."""
    state = _begin(problem)
    for _ in range(STEPS):
        training.outer_step(problem, problem.inner, state)
    return state.parameters


def _captured_steps(problem: Problem, engine: LanesEngine) -> Tensor:
    """Take the outer steps captured as a CUDA graph; return phi [1, parameters]."""
    step = OuterStep([problem], [_begin(problem)], engine)
    step.load(schedule.draw([problem], step.offsets, range(STEPS)), STEPS)
    take = captured(step)
    for _ in range(STEPS):
        take()
    return step.parameters


def _problem(settings: TrainingSettings, device: torch.device, engine: Engine) -> Problem:
    """Return a training on images of noise: as many classes and images as its tasks need."""
    architecture = ARCHITECTURES[settings.network]
    images = settings.train_shot + (settings.query_shot or 0)
    shape = (settings.way + CLASSES, images, *architecture.image_shape)
    scale = 1 if architecture.channels == 1 else 255
    values = torch.randint(0, scale + 1, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pool = ImagePool.of(values.numpy(), scale, device)
    return Problem("trial", settings, 0, {"meta-train": pool}, engine)


def _begin(problem: Problem) -> TrainingState:
    """Return the state before the first outer step, with second moments of 0.01 to 1.01."""
    state = training.start(problem)
    zeros = state.optimiser.second_moments
    drawn = torch.rand(zeros.shape, generator=torch.Generator().manual_seed(1), dtype=zeros.dtype)
    state.optimiser = OptimiserState(0.01 + drawn.to(zeros.device), 0)
    return state


def _kept(kind: str, settings: TrainingSettings, device: torch.device) -> Path | None:
    """Return the file that says that this passed; None where there is no cache that only the user can write to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" and torch.cuda.is_available() else device.type
    about = {"kind": kind, "settings": resolved(settings), "device": name, "torch": torch.__version__, "of": _sources()}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return compiled.folder() / f"trial-{key}.json"
    except OSError:
        return None


@cache
def _sources() -> str:
    """Return a digest of the code that is tried and of what it is compared with."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in (package / "engines/graph", package / "engines/lanes", package / "method"):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
