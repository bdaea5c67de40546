"""Repeats a recording on made-up images with this package, from the same start and the same mini-batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.method import training
from firstorder.method.algorithms import Group
from firstorder.method.architectures import ARCHITECTURES, BLOCKS
from firstorder.method.inner_loop import ADAM_BETA2, OptimiserState, adapt
from firstorder.settings import TrainingSettings
from recorded import flags, made_up
from recorded.made_up import Array

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class Results:
    """Results by key, each one array, and the value before the steps where a result is a changed state."""

    values: dict[str, Array] = field(default_factory=dict)
    before: dict[str, Array] = field(default_factory=dict)


class Recording:
    """A recording as it was read: how it was made, its draws, and the authors' results in both precisions.

    `shortened` replaces entries of what it says about itself, to repeat less of it.
    """

    def __init__(self, arrays: Any, **shortened: Any) -> None:
        self.arrays = {key: arrays[key] for key in arrays}
        self.about = json.loads(str(self.arrays["about"])) | shortened
        self.settings = flags.settings(self.about)
        self.name = self.about["network"]

    def authors(self, precision: str) -> dict[str, Array]:
        """Return what the authors' code computed, by the keys of `repeated`."""
        prefix = f"{precision}|"
        found = {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}
        moments = [f"outer{step}" for step in range(self.about["outer_steps"])]
        moments += [f"evaluation{shot}shot" for shot, _, _ in self.about["evaluations"]]
        repeated = {key: value for key, value in found.items() if key.split("|")[0] in moments}
        return {key: np.asarray(value, np.float64) for key, value in repeated.items() if compared(key)}

    def problem(self, precision: str, settings: TrainingSettings) -> training.Problem:
        """Return the training, with made-up images in both pools."""
        drawn = made_up.images(self.name, self.about["classes"], self.about["class_images"], made_up.POOL_SEED)
        channels_first = drawn[:, None] if drawn.ndim == 3 else drawn.transpose(0, 3, 1, 2)
        ink_is_one = self.about["recorder"] == "finn" and drawn.ndim == 3
        stored = 1 - channels_first if ink_is_one else channels_first
        scale = 1 if drawn.ndim == 3 else 255
        pool = training.ImagePool(torch.from_numpy(stored.copy()), self.about["class_images"], scale)
        pools = {"meta-train": pool, "meta-test": pool}
        return training.Problem("recorded", settings, 0, pools, dtype=DTYPES[precision])

    def start(self) -> Tensor:
        """Return the start values as one flat vector [1, parameters] in float64."""
        values = made_up.start(self.name, self.settings.way, made_up.START_SEED)
        factors = self.about["start_factor"]
        return flat(self.name, {name: factors.get(name, 1) * value for name, value in values.items()})

    def labels(self, count: int) -> Tensor:
        """Return the labels of `count` images that are sorted by class, [1, count]."""
        way = self.settings.way
        return torch.arange(way).repeat_interleave(count // way)[None]


def compared(key: str) -> bool:
    """Say whether a recorded array is a result that the package computes too."""
    return not key.endswith(("clipped", "correct"))


def flat(name: str, values: dict[str, Array]) -> Tensor:
    """Convert variables in TensorFlow's layout to this package's flat vector [1, parameters]."""
    network = training.make_network(name, len(values["dense.bias"]))
    named = {}
    for variable in network.shapes:
        value = values[variable]
        if variable.startswith("convolution"):
            value = value.transpose(3, 0, 1, 2)
        elif variable == "dense.kernel":
            side, filters = last_map(name)
            value = value.reshape(side, side, filters, -1).transpose(3, 2, 0, 1)
        named[variable] = torch.from_numpy(np.ascontiguousarray(value))
    return network.flat(named)[None]


def kept(name: str, way: int, vector: Tensor) -> Iterator[tuple[str, Array]]:
    """Yield what a recording keeps of each variable of a flat vector [1, parameters]."""
    for variable, tensor in training.make_network(name, way).named(vector[0]).items():
        value = tensor.double().numpy()
        if variable.startswith("convolution"):
            value = value.transpose(1, 2, 3, 0)
        elif variable == "dense.kernel":
            side, filters = last_map(name)
            value = value.reshape(way, filters, side, side).transpose(2, 3, 1, 0)
        yield variable, made_up.kept(variable, value)


def last_map(name: str) -> tuple[int, int]:
    """Return side and channels of what enters the dense layer."""
    architecture = ARCHITECTURES[name]
    return 1 if architecture.mean else architecture.map_sizes()[BLOCKS], architecture.filters


class Repetition:
    """The steps of one recording in one precision; its methods can be replaced to try a deviation."""

    def __init__(self, recording: Recording, precision: str) -> None:
        self.recording, self.precision = recording, precision
        self.settings = recording.settings
        self.problem = recording.problem(precision, self.settings)
        self.inner, self.algorithm = self.problem.inner, self.problem.algorithm
        self.results = Results()

    def run(self) -> Results:
        """Repeat all recorded steps; every state follows from the start, none is taken from the recording."""
        parameters = self.recording.start().to(self.problem.dtype)
        state, moments = OptimiserState.fresh(parameters), parameters.new_zeros(2, 1, 1)
        for step in range(self.recording.about["outer_steps"]):
            groups = self.groups(step)
            meta_gradient, state = self.algorithm(self.inner, parameters, state, groups)
            self.after_tasks(step, parameters, groups, meta_gradient)
            size = training.step_size(self.settings, step)
            before = parameters
            parameters, moments = training.outer_update(self.settings, parameters, moments, meta_gradient, size)
            self.keep(f"outer{step}|parameters", parameters, before)
            if self.settings.inner_optimiser == "adam":
                self.keep(f"outer{step}|second_moments", state.second_moments)
                # TensorFlow keeps beta2 to the power of (steps + 1).
                self.results.values[f"outer{step}|beta2_power"] = np.array(ADAM_BETA2 ** (state.steps + 1))
        for shot, _, _ in self.recording.about["evaluations"]:
            self.evaluate(f"evaluation{shot}shot", parameters, state)
        return self.results

    def groups(self, step: int) -> list[Group]:
        """Return the recorded mini-batches of an outer step."""
        if self.recording.about["recorder"] == "finn":
            support, query = (self.sorted_images(f"outer{step}|{what}") for what in ("support", "query"))
            return [Group([support] * self.settings.inner_steps, query)]
        fed = list(self.batches(f"outer{step}"))
        tail = self.settings.query_shot is not None
        groups = []
        for task in range(self.settings.meta_batch_size):
            own = [(images[[task]], labels[[task]]) for images, labels in fed]
            groups.append(Group(own[:-1], own[-1]) if tail else Group(own))
        return groups

    def batches(self, moment: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the recorded mini-batch of each inner step: images and labels with an axis for tasks."""
        step, arrays = 0, self.recording.arrays
        while f"{moment}|images{step}" in arrays:
            labels = torch.from_numpy(arrays[f"{moment}|labels{step}"].astype(np.int64))
            yield self.images(arrays[f"{moment}|images{step}"]), labels
            step += 1

    def images(self, numbers: Array) -> Tensor:
        """Return images [tasks, batch, channels, height, width] by their numbers [tasks, batch]."""
        return self.problem.pools["meta-train"].take(numbers.astype(np.int64), self.problem.dtype)

    def sorted_images(self, key: str) -> tuple[Tensor, Tensor]:
        """Return recorded images that are sorted by class, and their labels, [tasks, batch]."""
        images = self.images(self.recording.arrays[key])
        return images, self.recording.labels(images.shape[1]).expand(len(images), -1)

    def after_tasks(self, step: int, parameters: Tensor, groups: list[Group], meta_gradient: Tensor) -> None:
        """Of MAML keep the meta-gradient of their loss, and the logits of the queries after every inner step."""
        if self.recording.about["recorder"] != "finn":
            return
        divisor = self.settings.meta_loss_divisor or 1.0
        self.keep(f"outer{step}|meta_gradient", meta_gradient / divisor)
        images, labels = groups[0].batches[0]
        lanes = parameters.expand(len(images), -1)
        found = []
        for _ in range(max(self.settings.inner_steps, self.recording.about["test_updates"])):
            lanes, _ = adapt(self.inner, lanes, OptimiserState.fresh(lanes), [(images, labels)])
            found.append(self.inner.engine.logits(self.inner, lanes, groups[0].query[0]))
        self.results.values[f"outer{step}|logits"] = torch.stack(found).double().numpy()

    def evaluate(self, name: str, parameters: Tensor, state: OptimiserState) -> None:
        """Repeat a recorded evaluation from the state after the last outer step."""
        arrays, engine = self.recording.arrays, self.inner.engine
        support, query = (self.images(arrays[f"{name}|{what}"][None]) for what in ("support", "query"))
        adapted, _ = adapt(self.inner, parameters, state, list(self.batches(name)))
        self.keep(f"{name}|adapted", adapted, parameters)
        both = {
            "transductive": engine.logits(self.inner, adapted, query),
            "inductive": engine.inductive_logits(self.inner, adapted, support, query),
        }
        for mode, logits in both.items():
            self.results.values[f"{name}|{mode}_logits"] = logits[0].double().numpy()
            self.results.values[f"{name}|{mode}_answers"] = logits[0].argmax(dim=-1).double().numpy()

    def keep(self, what: str, vector: Tensor, before: Tensor | None = None) -> None:
        """Keep what a recording keeps of a flat vector."""
        way = self.settings.way
        self.results.values |= {f"{what}|{name}": value for name, value in kept(self.recording.name, way, vector)}
        if before is not None:
            self.results.before |= {f"{what}|{name}": value for name, value in kept(self.recording.name, way, before)}
