"""A workload made ready to run with one of the engines, on images of noise.

A newcomer would get wrong: it is the code of a training that is timed, tasks drawn and images gathered included, not a
loop of the benchmark's own. The images hold nothing to learn, which changes no cost.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from firstorder.bench import jax_reference
from firstorder.bench.workloads import Workload
from firstorder.method import evaluation, training
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.images import ImagePool, mini_batches, query_images, task_images
from firstorder.method.inner_loop import Engine, Plain, adapt
from firstorder.method.tasks import Draws, TaskShape, draw_tasks
from firstorder.method.training import Problem
from firstorder.settings import EvaluationSettings

# Sizes of the pool of noise: meta-train of Omniglot with rotations; mini-ImageNet's with a tenth of its images.
POOLS = {28: (4800, 20), 84: (64, 60)}
PLAIN, JAX = "plain", "jax"
CPU_ONLY = ("native", JAX)
JAX_DOES = ("omniglot", "reptile", "carried")
EVALUATED = 512  # tasks of a step on a GPU

EngineFactory = Callable[[str, int], Engine]


class UnsuitedError(Exception):
    """An engine that does not do a workload; the message says why."""


@dataclass(frozen=True)
class Case:
    """A workload ready to run: `step` does it `units` times, `draw` and `gather` what is not arithmetic."""

    step: Callable[[], object]
    draw: Callable[[], object]
    gather: Callable[[], object]
    units: int = 1


def _plain(network: str, way: int) -> Engine:
    """Differentiate by autograd: the reference, and the oracle of every other engine."""
    return Plain()


def _native(network: str, way: int) -> Engine:
    from firstorder.engines.native import engine as native

    reason = native.reason(network)
    if reason:
        raise UnsuitedError(reason)
    return native.NativeEngine(network, way)


def _lanes(network: str, way: int) -> Engine:
    from firstorder.engines.lanes.engine import LanesEngine

    return LanesEngine(network, way)


ENGINES: dict[str, EngineFactory] = {
    PLAIN: _plain,
    "native": _native,
    "lanes": _lanes,
}
# Engine `lanes` with whole outer steps recorded (on a GPU): so many seeds side by side.
RECORDED = {"graph": 1, "graph, 3 seeds": 3}
CONTENDERS = (*ENGINES, *RECORDED, JAX)
DEFAULTS = {"cpu": (PLAIN, "native", JAX), "cuda": (PLAIN, "lanes", *RECORDED)}


def noise(workload: Workload, device: torch.device) -> ImagePool:
    """Return a pool of images of noise, in the data set's size and range of values."""
    architecture = ARCHITECTURES[workload.settings.network]
    classes, images = workload.pool or POOLS[architecture.size]
    scale = 1 if architecture.channels == 1 else 255
    shape = (classes, images, architecture.channels, architecture.size, architecture.size)
    values = np.random.default_rng(0).integers(0, scale + 1, shape, dtype=np.uint8)
    return ImagePool.of(values, scale, device)


def make_case(workload: Workload, engine_name: str, device: torch.device) -> Case:
    """Make a workload ready to run with one of CONTENDERS.

    Raises ImportError or UnsuitedError, with the reason, where that engine cannot be had here or does not do this.
    """
    if device.type != "cpu" and engine_name in CPU_ONLY:
        raise UnsuitedError("runs on a CPU only")
    if engine_name == JAX:
        return _in_jax(workload, device)
    if engine_name in RECORDED:
        return _recorded(workload, RECORDED[engine_name], device)
    engine = ENGINES[engine_name](workload.settings.network, workload.settings.way)
    pool = noise(workload, device)
    problem = Problem("benchmark", workload.settings, 0, {"meta-train": pool, "meta-test": pool}, engine)
    if workload.evaluation is None:
        return _outer_step(problem, pool)
    return _inductive_task(problem, pool, workload.evaluation)


def _outer_step(problem: Problem, pool: ImagePool) -> Case:
    inner, progress = problem.inner, training.start(problem)
    inputs = _inputs(pool, training.training_shape(problem), problem.settings.meta_batch_size)
    return Case(lambda: training.outer_step(problem, inner, progress), *inputs)


def _recorded(workload: Workload, runs: int, device: torch.device) -> Case:
    """Take recorded outer steps of several seeds at once, their draws, block by block, included."""
    from firstorder.engines.graph import outer_step, schedule
    from firstorder.engines.lanes.engine import LanesEngine

    if workload.evaluation is not None:
        raise UnsuitedError("records outer steps, not evaluations")
    pool = noise(workload, device)
    pools = {"meta-train": pool, "meta-test": pool}
    engine = LanesEngine(workload.settings.network, workload.settings.way)
    problems = [Problem("benchmark", workload.settings, seed, pools, engine) for seed in range(runs)]
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
    return Case(next_step, *inputs, runs)


def _in_jax(workload: Workload, device: torch.device) -> Case:
    settings = workload.settings
    if workload.evaluation or (settings.network, settings.algorithm, settings.second_moments) != JAX_DOES:
        raise UnsuitedError("is written for Reptile on Omniglot only")
    if importlib.util.find_spec("jax") is None:
        raise ImportError("JAX is not installed")
    pool = noise(workload, device)
    problem = Problem("benchmark", settings, 0, {"meta-train": pool})
    shape = training.training_shape(problem)
    step = jax_reference.make_step(settings, pool.images.numpy(), shape)
    return Case(step, *_inputs(pool, shape, settings.meta_batch_size))


def _inductive_task(problem: Problem, pool: ImagePool, settings: EvaluationSettings) -> Case:
    """On a CPU one task, as a user classifies one; on a GPU EVALUATED tasks as `firstorder evaluate` does them."""
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
        # Both modes, as always: the transductive one adds one forward pass of the queries, less than 1 %.
        draws = Draws(title="", shape=shape, seed=0, purpose="benchmark", step=next(numbers), tasks=EVALUATED)
        evaluation.evaluate(inner, checkpoint, pool, draws)

    if pool.images.device.type == "cpu":
        return Case(one, *_inputs(pool, shape, 1))
    return Case(many, *_inputs(pool, shape, EVALUATED), EVALUATED)


def _inputs(pool: ImagePool, shape: TaskShape, tasks: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the drawing and the gathering of a step's inputs: its indices, and its images on the device."""
    drawn = draw_tasks(shape, 0, "benchmark", 0, range(tasks))

    def gather() -> None:
        mini_batches(pool, drawn)
        if shape.query:
            query_images(pool, drawn)

    return lambda: draw_tasks(shape, 0, "benchmark", 0, range(tasks)), gather
