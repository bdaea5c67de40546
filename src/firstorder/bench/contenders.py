"""Prepares a workload for timing with one of the engines, on images of noise.

What is timed is the code of real trainings and evaluations, including drawing tasks and gathering images. With noise
there is nothing to learn, but every step costs the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from firstorder.bench import jax_reference
from firstorder.bench.workloads import PoolSize, Workload
from firstorder.engines.choice import MAKERS, UnsuitedError, Wish
from firstorder.engines.graph import outer_step, schedule
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.method import evaluation, training
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.images import ImagePool, mini_batches, query_images, task_images
from firstorder.method.inner_loop import adapt
from firstorder.method.tasks import Draws, TaskShape, draw_tasks
from firstorder.method.training import Problem
from firstorder.settings import EvaluationSettings
from firstorder.settings.engines import CONTENDERS, GRAPH, JAX, NATIVE

# By image size: as meta-train of Omniglot with rotations, and of mini-ImageNet with a tenth of its images.
POOLS = {28: PoolSize(4800, 20), 84: PoolSize(64, 60)}
EVALUATED = 512  # tasks per step on a GPU


@dataclass(frozen=True)
class Case:
    """A workload ready to run: `step` does it `units` times; `draw` and `gather` prepare the inputs of a step."""

    step: Callable[[], object]
    draw: Callable[[], object]
    gather: Callable[[], object]
    units: int = 1


def pool_size(workload: Workload) -> PoolSize:
    """Return the size of the pool that a workload draws from."""
    return workload.pool or POOLS[ARCHITECTURES[workload.settings.network].size]


def noise(workload: Workload, device: torch.device) -> ImagePool:
    """Return a pool of noise images with the data set's size and value range."""
    architecture, pool = ARCHITECTURES[workload.settings.network], pool_size(workload)
    scale = 1 if architecture.channels == 1 else 255
    shape = (pool.classes, pool.class_images, architecture.channels, architecture.size, architecture.size)
    values = np.random.default_rng(0).integers(0, scale + 1, shape, dtype=np.uint8)
    return ImagePool.of(values, scale, device)


def make_case(workload: Workload, engine_name: str, device: torch.device, threads: int = 1) -> Case:
    """Prepare a workload for one of settings.engines.CONTENDERS; `threads` are those of engine native.

    Raises ImportError or UnsuitedError, with the reason, where the engine is not available or does not support it.
    """
    if device.type != "cpu" and engine_name in (NATIVE, JAX):
        raise UnsuitedError("runs on a CPU only")
    if engine_name == JAX:
        return _in_jax(workload, device)
    if engine_name.startswith(GRAPH):
        return _captured_steps(workload, CONTENDERS[engine_name], device)
    engine = MAKERS[engine_name](Wish(name=engine_name, device=device, threads=threads), workload.settings).engine
    pool = noise(workload, device)
    problem = Problem("benchmark", workload.settings, 0, {"meta-train": pool, "meta-test": pool}, engine)
    if workload.evaluation is None:
        return _outer_step(problem, pool)
    return _inductive_task(problem, pool, workload.evaluation)


def _outer_step(problem: Problem, pool: ImagePool) -> Case:
    inner, state = problem.inner, training.start(problem)
    inputs = _inputs(pool, training.training_shape(problem), problem.settings.meta_batch_size)
    return Case(lambda: training.outer_step(problem, inner, state), *inputs)


def _captured_steps(workload: Workload, seeds: int, device: torch.device) -> Case:
    """Take captured outer steps of several seeds at once. Drawing their schedules is included in the time."""
    if workload.evaluation is not None:
        raise UnsuitedError("captures outer steps, not evaluations")
    pool = noise(workload, device)
    pools = {"meta-train": pool, "meta-test": pool}
    engine = LanesEngine(workload.settings.network, workload.settings.way)
    problems = [Problem("benchmark", workload.settings, seed, pools, engine) for seed in range(seeds)]
    step = outer_step.OuterStep(problems, [training.start(problem) for problem in problems], engine)
    room = schedule.longest(problems)
    step.load(schedule.draw(problems, step.offsets, range(room)), room)
    take = outer_step.captured(step)
    taken = 0

    def next_step() -> None:
        nonlocal taken
        if taken and taken % room == 0:
            step.load(schedule.draw(problems, step.offsets, range(taken, taken + room)), room)
        take()
        taken += 1

    inputs = _inputs(pool, training.training_shape(problems[0]), workload.settings.meta_batch_size)
    return Case(next_step, *inputs, seeds)


def _in_jax(workload: Workload, device: torch.device) -> Case:
    settings = workload.settings
    supported = (settings.network, settings.algorithm, settings.second_moments) == ("omniglot", "reptile", "carried")
    if workload.evaluation or not supported or settings.inner_beta1:
        raise UnsuitedError("is written for Reptile on Omniglot only")
    if importlib.util.find_spec("jax") is None:
        raise ImportError("JAX is not installed")
    pool = noise(workload, device)
    problem = Problem("benchmark", settings, 0, {"meta-train": pool})
    shape = training.training_shape(problem)
    step = jax_reference.make_step(settings, pool.images.numpy(), shape)
    return Case(step, *_inputs(pool, shape, settings.meta_batch_size))


def _inductive_task(problem: Problem, pool: ImagePool, settings: EvaluationSettings) -> Case:
    """On a CPU time one inductive task; on a GPU time EVALUATED tasks at once, as `firstorder evaluate` runs them."""
    inner = problem.inner
    checkpoint = training.checkpoint_of(problem, training.start(problem), {})
    shape = evaluation.evaluation_shape(pool, problem.settings.way, settings)
    numbers = iter(range(2**62))

    def one() -> None:
        number = next(numbers)
        tasks = draw_tasks(shape, 0, "benchmark", 0, range(number, number + 1))
        task = task_images(pool, tasks)
        adapted, _ = adapt(inner, checkpoint.parameters, checkpoint.state, task.batches)
        with torch.no_grad():
            answers = inner.engine.inductive_logits(inner, adapted, task.support, task.query)
        answers.argmax(dim=-1).cpu()

    def many() -> None:
        # Evaluates both modes; the transductive one adds a forward pass of the queries, less than 1 % of the time.
        draws = Draws(title="", shape=shape, seed=0, purpose="benchmark", step=next(numbers), tasks=EVALUATED)
        evaluation.evaluate(inner, checkpoint, pool, draws)

    if pool.images.device.type == "cpu":
        return Case(one, *_inputs(pool, shape, 1))
    return Case(many, *_inputs(pool, shape, EVALUATED), EVALUATED)


def _inputs(pool: ImagePool, shape: TaskShape, tasks: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions: one draws the indices of a step, one gathers its images on the device."""
    drawn = draw_tasks(shape, 0, "benchmark", 0, range(tasks))

    def gather() -> None:
        mini_batches(pool, drawn)
        if shape.query:
            query_images(pool, drawn)

    return lambda: draw_tasks(shape, 0, "benchmark", 0, range(tasks)), gather
