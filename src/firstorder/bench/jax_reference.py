"""Reptile on Omniglot in JAX, if installed: a further reference for the benchmark, in its fastest known form.

It computes Reptile's outer step with the same network, loss, Adam and draws as the package. It is not an engine: no
training uses it. Convolutions are patches and a matrix product, tasks and inner steps are scans, and one compiled call
is an outer step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from firstorder.method.architectures import BLOCKS
from firstorder.method.inner_loop import ADAM_BETA2, ADAM_EPSILON, adam_rate
from firstorder.method.networks import BATCH_NORMALISATION_EPSILON, make_network
from firstorder.method.tasks import TaskShape, draw_tasks
from firstorder.settings import TrainingSettings

Array = Any


def make_outer_step(settings: TrainingSettings) -> Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]:
    """Return Reptile's outer step of size epsilon for the network `omniglot`, compiled.

    Its arguments are parameters [parameters], second moments [parameters], the number of earlier Adam steps, images
    [tasks, steps, batch, 28, 28] and labels [tasks, steps, batch]. It returns parameters and second moments.
    """
    jax = importlib.import_module("jax")
    numpy = importlib.import_module("jax.numpy")
    shapes = make_network("omniglot", settings.way).shapes
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]

    def block(maps: Array, kernel: Array, scale: Array, shift: Array) -> Array:
        side = maps.shape[1]
        half, before = -(-side // 2), side % 2  # TensorFlow's "same" padding of a stride of 2
        maps = numpy.pad(maps, ((0, 0), (before, 1), (before, 1), (0, 0)))
        places = [maps[:, y : y + 2 * half - 1 : 2, x : x + 2 * half - 1 : 2] for y in range(3) for x in range(3)]
        maps = numpy.concatenate(places, axis=-1) @ kernel.reshape(len(kernel), -1).T
        mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
        normal = (maps - mean) / numpy.sqrt(variance + BATCH_NORMALISATION_EPSILON)
        return jax.nn.relu(normal * scale + shift)

    def loss(parameters: Array, images: Array, labels: Array) -> Array:
        pieces = zip(shapes.items(), numpy.split(parameters, ends), strict=True)
        parts = {name: part.reshape(shape) for (name, shape), part in pieces}
        maps = images[..., None]
        for number in range(1, BLOCKS + 1):
            names = (f"convolution{number}.kernel", f"normalisation{number}.scale", f"normalisation{number}.shift")
            maps = block(maps, *(parts[name] for name in names))
        features = maps.transpose(0, 3, 1, 2).reshape(len(maps), -1)
        logits = features @ parts["dense.kernel"].T + parts["dense.bias"]
        return -numpy.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).sum()

    def inner_step(carry: Array, batch: Array) -> Array:
        parameters, moments, steps = carry
        slope = jax.grad(loss)(parameters, *batch)
        moments = ADAM_BETA2 * moments + (1 - ADAM_BETA2) * slope**2
        rate = adam_rate(settings.inner_learning_rate, steps + 1, numpy.sqrt)
        return (parameters - rate * slope / (numpy.sqrt(moments) + ADAM_EPSILON), moments, steps + 1), None

    def outer_step(
        parameters: Array, moments: Array, steps: Array, images: Array, labels: Array
    ) -> tuple[Array, Array]:
        def task(carry: Array, batches: Array) -> Array:
            (adapted, moments, steps), _ = jax.lax.scan(inner_step, (parameters, *carry), batches)
            return (moments, steps), adapted - parameters

        (moments, _), displacements = jax.lax.scan(task, (moments, steps), (images, labels))
        return parameters + settings.outer_step_size * displacements.mean(axis=0), moments

    compiled: Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]] = jax.jit(outer_step)
    return compiled


def make_step(
    settings: TrainingSettings, images: np.ndarray[Any, np.dtype[np.uint8]], shape: TaskShape
) -> Callable[[], None]:
    """Return a function that draws the next outer step's tasks from `images` [images, 1, 28, 28] and takes the step."""
    outer_step = make_outer_step(settings)
    parameters = make_network("omniglot", settings.way).initial(0).numpy()
    state: list[Array] = [parameters, np.zeros_like(parameters)]
    numbers = iter(range(2**62))

    def step() -> None:
        number = next(numbers)
        tasks = draw_tasks(shape, 0, "benchmark", number, range(settings.meta_batch_size))
        batches = images[tasks.batches, 0].astype(np.float32)
        before = np.float32(number * settings.meta_batch_size * settings.inner_steps)
        after: Array = outer_step(state[0], state[1], before, batches, tasks.batch_labels)
        state[:] = after
        state[0].block_until_ready()

    return step
