"""Counts the floating-point operations of a workload and the bytes that it must move.

A multiplication and an addition count as two operations. The count is what the method requires, not what an engine
executes. It covers the convolutions and the dense layer. Normalisation, ReLU, max-pooling, loss and optimisers are left
out: they are small in comparison and depend on the implementation. So is anything that an engine recomputes.
"""

from __future__ import annotations

from dataclasses import dataclass

from firstorder.method.architectures import BLOCKS, Architecture, architecture_of
from firstorder.settings import EvaluationSettings, TrainingSettings

FLOAT_BYTES = 4
SECOND_ORDER = ("maml", "binomial")


@dataclass(frozen=True)
class Operations:
    """Operations for one image: of the forward pass, and of its first layer."""

    forward: int
    first_layer: int

    @property
    def gradient(self) -> int:
        """Forward pass, weight gradient and input gradient, each with the same number of products.

        The images are not differentiated, so the first layer has no input gradient.
        """
        return 3 * self.forward - self.first_layer

    @property
    def hessian_product(self) -> int:
        """The Hessian times a vector, with the gradient already computed: twice the gradient.

        By the product rule every product of the gradient becomes two. In the first layer one of the two is zero, since
        the images are not differentiated. It is counted nevertheless (1.4 % of the Hessian product on Omniglot).
        """
        return 2 * self.gradient


def operations(network: str | Architecture, way: int) -> Operations:
    """Count the operations of an architecture, or one of ARCHITECTURES by its name, on one image."""
    layers = products(network)
    dense = 2 * _features(architecture_of(network)) * way
    return Operations(sum(layers) + dense, layers[0])


def products(network: str | Architecture) -> list[int]:
    """Count the operations of each convolution's forward pass on one image; its two gradients have as many each."""
    architecture = architecture_of(network)
    return [
        2 * places * 9 * channels * architecture.filters
        for places, channels in zip(_places(architecture), _channels(architecture), strict=True)
    ]


def of_outer_step(settings: TrainingSettings) -> int:
    """Count the operations of one outer step: all tasks, all inner steps, and the queries if any.

    Second-order algorithms (MAML) add one Hessian product per inner step.
    """
    one = operations(architecture_of(settings.network, settings.image), settings.way)
    inner = settings.inner_steps * settings.inner_batch_size
    query = settings.way * (settings.query_shot or 0)
    total = (inner + query) * one.gradient
    if settings.algorithm in SECOND_ORDER:
        total += inner * one.hessian_product
    return settings.meta_batch_size * total


def of_inductive_task(network: str | Architecture, way: int, settings: EvaluationSettings) -> int:
    """Count the operations of one inductive evaluation task: the inner steps, then each query with the support set."""
    one = operations(network, way)
    adaptation = settings.inner_steps * settings.inner_batch_size * one.gradient
    queries = way * (settings.query or 1)
    return adaptation + queries * (way * settings.shot + 1) * one.forward


def bytes_of_outer_step(settings: TrainingSettings, parameters: int) -> int:
    """Count the bytes that an outer step with `parameters` parameters must move if each layer is one pass over memory.

    Everything is float32. Per image and block, the convolution's output and the block's output are each written and
    read in the forward pass, read again in the backward pass, and their gradients are written and read: 5 passes each.
    The image is read twice. Per task and inner step, the parameters are read forward and backward, the gradient is
    written and read, the second moments are read and written, and the new parameters are written: 7 passes (5 without
    Adam). Fewer passes would require keeping maps on the chip between layers, which batch statistics prevent in
    general. A Hessian product counts as two gradients, as in `of_outer_step`.
    """
    architecture = architecture_of(settings.network, settings.image)
    maps = architecture.filters * (sum(_places(architecture)) + sum(side**2 for side in architecture.map_sizes()[1:]))
    image = 5 * maps + 2 * architecture.channels * architecture.size**2
    inner = settings.inner_steps * settings.inner_batch_size
    images = inner + settings.way * (settings.query_shot or 0)
    vectors = settings.inner_steps * (7 if settings.inner_optimiser == "adam" else 5)
    if settings.query_shot:
        vectors += 3  # parameters forward and backward, the gradient written
    if settings.algorithm in SECOND_ORDER:
        images += 2 * inner
        vectors += 2 * 3 * settings.inner_steps
    return FLOAT_BYTES * settings.meta_batch_size * (images * image + vectors * parameters)


def _places(architecture: Architecture) -> list[int]:
    """Return the positions in each convolution's output; where the convolution strides, that is the block's output."""
    sizes = architecture.map_sizes()
    return [side**2 for side in (sizes[1:] if architecture.pool == "stride" else sizes[:-1])]


def _channels(architecture: Architecture) -> list[int]:
    return [architecture.channels, *[architecture.filters] * (BLOCKS - 1)]


def _features(architecture: Architecture) -> int:
    return architecture.filters * (1 if architecture.mean else architecture.map_sizes()[-1] ** 2)
