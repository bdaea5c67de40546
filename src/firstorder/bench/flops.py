"""Counts the arithmetic of a workload, and the bytes that it must move: the one place where either is counted.

A newcomer would get wrong: a multiplication and an addition count as two operations, and what is counted is what the
method asks for, not what some code does. Counted are the convolutions and the dense layer. Not counted, because it is
small beside them and depends on how it is written: normalisation, rectifier, maxima, loss, optimisers, and whatever
an engine computes twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from firstorder.method.architectures import ARCHITECTURES, BLOCKS, Architecture
from firstorder.settings import EvaluationSettings, TrainingSettings

FLOAT_BYTES = 4
SECOND_ORDER = ("maml", "binomial")


@dataclass(frozen=True)
class Operations:
    """Operations for one image: of the whole forward pass, and of the first layer's alone."""

    forward: int
    first_layer: int

    @property
    def gradient(self) -> int:
        """Forward pass, gradient for the weights, gradient for the input: three times the same products.

        The images are not differentiated, so the first layer has no gradient for its input.
        """
        return 3 * self.forward - self.first_layer

    @property
    def hessian_product(self) -> int:
        """The gradient's Hessian times a vector, where the gradient itself is at hand: twice the gradient.

        By the product rule every product of the gradient becomes two. In the first layer one of the two is zero, as
        images are not differentiated; it is counted all the same (1.4 % of the product on Omniglot).
        """
        return 2 * self.gradient


def operations(network: str, way: int) -> Operations:
    """Count the operations of a network of models.ARCHITECTURES on one image."""
    architecture = ARCHITECTURES[network]
    layers = [
        2 * places * 9 * channels * architecture.filters
        for places, channels in zip(_places(architecture), _channels(architecture), strict=True)
    ]
    dense = 2 * _features(architecture) * way
    return Operations(sum(layers) + dense, layers[0])


def of_outer_step(settings: TrainingSettings) -> int:
    """Count the operations of one outer step: all tasks, all inner steps, and the queries where there are any.

    Second order (MAML): one product of a Hessian with a vector for each inner step.
    """
    one = operations(settings.network, settings.way)
    inner = settings.inner_steps * settings.inner_batch_size
    query = settings.way * (settings.query_shot or 0)
    total = (inner + query) * one.gradient
    if settings.algorithm in SECOND_ORDER:
        total += inner * one.hessian_product
    return settings.meta_batch_size * total


def of_inductive_task(network: str, way: int, settings: EvaluationSettings) -> int:
    """Count the operations of one inductive evaluation task: inner steps, then each query with the support set."""
    one = operations(network, way)
    adaptation = settings.inner_steps * settings.inner_batch_size * one.gradient
    queries = way * (settings.query or 1)
    return adaptation + queries * (way * settings.shot + 1) * one.forward


def bytes_of_outer_step(settings: TrainingSettings, parameters: int) -> int:
    """Count the bytes that an outer step of `parameters` parameters must move if every layer is one pass over memory.

    All is float32. For each image and block, the convolution's map and the block's own map each are written and read
    going forward, read again going back, and their gradients are written and read: 5 passes each; the image is read
    twice. For each task and inner step, the parameters are read forward and back, the gradient is written and read,
    the second moments are read and written, the new parameters are written: 7 passes (without Adam 5). Less is
    possible only by keeping maps on the chip from one layer to the next, which the batch statistics forbid in general.
    A Hessian product counts as two gradients, as in `of_outer_step`.
    """
    architecture = ARCHITECTURES[settings.network]
    maps = architecture.filters * (sum(_places(architecture)) + sum(side**2 for side in architecture.map_sizes()[1:]))
    image = 5 * maps + 2 * architecture.channels * architecture.size**2
    inner = settings.inner_steps * settings.inner_batch_size
    images = inner + settings.way * (settings.query_shot or 0)
    vectors = settings.inner_steps * (7 if settings.inner_optimiser == "adam" else 5)
    if settings.query_shot:
        vectors += 3  # parameters forward and back, the gradient written
    if settings.algorithm in SECOND_ORDER:
        images += 2 * inner
        vectors += 2 * 3 * settings.inner_steps
    return FLOAT_BYTES * settings.meta_batch_size * (images * image + vectors * parameters)


def _places(architecture: Architecture) -> list[int]:
    """Return the places of each convolution's map: where it strides, those of the block's own map."""
    sizes = architecture.map_sizes()
    return [side**2 for side in (sizes[1:] if architecture.pool == "stride" else sizes[:-1])]


def _channels(architecture: Architecture) -> list[int]:
    return [architecture.channels, *[architecture.filters] * (BLOCKS - 1)]


def _features(architecture: Architecture) -> int:
    return architecture.filters * (1 if architecture.mean else architecture.map_sizes()[-1] ** 2)
