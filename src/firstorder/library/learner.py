"""A meta-trained network: loaded, adapted to support images, and evaluated on arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.engines.choice import Choice, Wish, choose, cores_for
from firstorder.errors import UserError
from firstorder.library.arrays import Array, Classes, classes_of, images_of, labels_of
from firstorder.method import evaluation
from firstorder.method.architectures import architecture_of
from firstorder.method.evaluation import Checkpoint
from firstorder.method.images import ImagePool
from firstorder.method.inner_loop import adapt
from firstorder.method.tasks import SAMPLINGS, Draws, raw
from firstorder.method.training import Problem
from firstorder.progress import Track, silent
from firstorder.records import checkpoints
from firstorder.records.headers import CHECKPOINT_FILE, about_of
from firstorder.settings import EvaluationSettings, Mode, TrainingSettings
from firstorder.settings.schema import build
from firstorder.upkeep import published_files

Z = 1.959963984540054  # standard errors on each side of a 95 % interval


@dataclass(frozen=True)
class Accuracy:
    """A mean over tasks (fraction from 0 to 1), the half-width of its 95 % interval over tasks, and their number."""

    accuracy: float
    half_width: float
    tasks: int


@dataclass(frozen=True)
class Adapted:
    """A network adapted to the classes of some support images, after `inner_steps` inner steps."""

    learner: Learner
    parameters: Tensor = field(repr=False)  # [1, parameters]
    support: Tensor = field(repr=False)  # float32 [images, channels, height, width]
    inner_steps: int

    def logits(self, query: Array, mode: Mode = "transductive") -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return float32 [queries, way]: the logits of query images.

        mode: "transductive" normalises all queries together, so the answer to one depends on the others;
        "inductive" normalises each with the support images only. Raises TypeError and ValueError for other images than
        the network takes, and ValueError for another mode.
        """
        if mode not in ("transductive", "inductive"):
            raise ValueError(f"mode: expected 'transductive' or 'inductive', found {mode!r}")
        problem = self.learner.problem
        images = images_of(query, "query images", self.learner.image_shape).to(problem.device)[None]
        support = self.support[None]
        inner, engine = problem.inner, problem.engine
        with torch.no_grad():
            if mode == "transductive":
                found = engine.logits(inner, self.parameters, images)
            else:
                found = engine.inductive_logits(inner, self.parameters, support, images)
        return np.asarray(found[0].cpu(), np.float32)

    def predict(self, query: Array, mode: Mode = "transductive") -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return int64 [queries]: the label with the largest logit of each query image; arguments as of `logits`."""
        labels: np.ndarray[Any, np.dtype[np.int64]] = self.logits(query, mode).argmax(axis=1)
        return labels


@dataclass(frozen=True)
class Learner:
    """A meta-trained network, ready to be adapted to new classes: what a checkpoint holds."""

    problem: Problem = field(repr=False)
    checkpoint: Checkpoint = field(repr=False)
    curve: tuple[dict[str, Any], ...] = field(default=(), repr=False)  # of a training here, by columns.CURVE

    def __repr__(self) -> str:
        """Say what it was trained for."""
        sizes = "x".join(map(str, self.image_shape))
        return f"Learner({self.settings.algorithm}, {self.way}-way, images {sizes})"

    @property
    def settings(self) -> TrainingSettings:
        """The settings of its training."""
        return self.problem.settings

    @property
    def way(self) -> int:
        """How many classes it tells apart."""
        return self.settings.way

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that it takes."""
        channels, height, width = self.problem.architecture.image_shape
        return channels, height, width

    def adapt(
        self,
        images: Array,
        labels: Array | Sequence[int],
        *,
        inner_steps: int | None = None,
        inner_batch_size: int | None = None,
        seed: int = 0,
    ) -> Adapted:
        """Adapt to support images with labels, and return the adapted network; this one does not change.

        images: [images, channels, height, width]; labels: [images], from 0 to way - 1, each class at least once.
        inner_steps and inner_batch_size: those of its learning curve by default, no more than there are images. The
        images are shuffled by `seed` and used in turn, as in an evaluation. Adam's second moments are those that were
        trained. Raises TypeError and ValueError.
        """
        *_, adapted = self.steps(images, labels, inner_steps=inner_steps, inner_batch_size=inner_batch_size, seed=seed)
        return adapted

    def steps(
        self,
        images: Array,
        labels: Array | Sequence[int],
        *,
        inner_steps: int | None = None,
        inner_batch_size: int | None = None,
        seed: int = 0,
    ) -> Iterator[Adapted]:
        """Yield the network before the first inner step and after each one; arguments as of `adapt`."""
        support = images_of(images, "support images", self.image_shape).to(self.problem.device)
        targets = labels_of(labels, "support labels", len(support), self.way).to(self.problem.device)
        count = self.settings.curve.inner_steps if inner_steps is None else inner_steps
        batch = inner_batch_size or self.settings.curve.inner_batch_size
        batch = min(batch, len(support)) if inner_batch_size is None else batch
        if count < 0 or batch < 1:
            raise ValueError(f"expected at least 0 inner steps of at least 1 image, found {count} of {batch}")
        return self._steps(support, targets, _order(len(support), count, batch, seed))

    def _steps(self, support: Tensor, targets: Tensor, order: np.ndarray[Any, Any]) -> Iterator[Adapted]:
        inner, state = self.problem.inner, self.checkpoint.state
        parameters = self.checkpoint.parameters
        yield Adapted(self, parameters, support, 0)
        for number, some in enumerate(torch.from_numpy(order).to(support.device), start=1):
            parameters, state = adapt(inner, parameters, state, [(support[some][None], targets[some][None])])
            yield Adapted(self, parameters, support, number)

    def evaluate(
        self,
        classes: Array | Sequence[Array],
        *,
        shot: int = 1,
        tasks: int = 1000,
        inner_steps: int | None = None,
        inner_batch_size: int | None = None,
        query: int = 1,
        seed: int = 0,
        track: Track = silent,
    ) -> dict[Mode, Accuracy]:
        """Return the accuracy in both modes on tasks drawn from classes that the training has not seen.

        classes: [classes, images, channels, size, size], or a sequence of [images, channels, size, size]. Each task has
        `way` classes, `shot` support and `query` query images of each. `track` shows progress (firstorder.progress).
        Raises TypeError, ValueError, and UserError if there are too few classes or images.
        """
        curve = self.settings.curve
        wish: dict[str, Any] = {"training": "", "shot": shot, "tasks": tasks, "query": query}
        wish["inner_steps"] = curve.inner_steps if inner_steps is None else inner_steps
        wish["inner_batch_size"] = inner_batch_size or min(curve.inner_batch_size, self.way * shot)
        chosen = build(EvaluationSettings, wish, "evaluate")
        pool = pool_of(classes_of(classes, "classes"), self.problem.device)
        problem = Problem(self.problem.name, self.settings, seed, {"meta-train": pool}, self.problem.engine)
        shape = evaluation.evaluation_shape(pool, self.way, chosen)
        draws = Draws(title="evaluation", shape=shape, seed=seed, purpose="evaluation", step=0, tasks=tasks)
        with cores_for(problem.engine):
            counts = evaluation.evaluate(problem.inner, self.checkpoint, pool, draws, track)
        found = {mode: evaluation.mean_accuracy(correct, self.way * query) for mode, correct in counts.items()}
        return {mode: Accuracy(accuracy, Z * error, tasks) for mode, (accuracy, error) in found.items()}

    def save(self, path: str | Path) -> None:
        """Write its checkpoint, which `load` reads. The same content gives the same bytes."""
        checkpoints.write(Path(path), self.problem.network, self.checkpoint)


def load(path: str | Path, *, device: str = "cpu", engine: str = "auto") -> Learner:
    """Load a checkpoint of this package.

    If the file is not there but its .dvc file is, the copy in the repository's folder `published/` or in DVC's cache is
    read. `device` is "cpu" or "cuda"; `engine` as of `firstorder train --engine`. Raises UserError, which says what to
    do, if there is no such file, or it is damaged or no checkpoint.
    """
    path = Path(path)
    there = published_files.find(path)
    content = CHECKPOINT_FILE.read(there)
    try:
        values = about_of(content)["settings"]["training"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a checkpoint of this package ({error}); name another file") from None
    settings = build(TrainingSettings, values, f"{path}: settings")
    problem, _ = problem_of(path.stem, settings, 0, {}, device, engine)
    checkpoint, _ = checkpoints.read(there, problem.network)
    return Learner(problem, checkpoint.to(problem.device))


def problem_of(
    name: str, settings: TrainingSettings, seed: int, pools: dict[str, ImagePool], device: str, engine: str
) -> tuple[Problem, Choice]:
    """Return the problem of a training or a checkpoint, and the choice of its engine."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: torch finds no CUDA device here; use 'cpu'")
    place = torch.device(device)
    if place.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # or convolutions would be rounded to 10 bits
    choice = choose(Wish(name=engine, device=place), settings)
    empty = ImagePool(torch.zeros(0, *_shape(settings), dtype=torch.uint8, device=place), 1, 1)
    return Problem(name, settings, seed, pools or {"meta-train": empty}, choice.engine), choice


def _shape(settings: TrainingSettings) -> list[int]:
    return architecture_of(settings.network, settings.image).image_shape


def pool_of(made: Classes, device: torch.device) -> ImagePool:
    """Move classes to the device."""
    return ImagePool.of(made.images, made.scale, device, counts=made.counts)


def _order(images: int, steps: int, batch: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return which images each inner step takes, [steps, batch]: shuffled, used in turn, shuffled again."""
    rounds = -(-steps * batch // images)
    if not rounds:
        return np.zeros((0, batch), np.int64)
    keys = raw(rounds * images, seed, "library adapt").reshape(rounds, images)
    return SAMPLINGS["cycle"](keys, steps, batch)
