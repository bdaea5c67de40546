"""Networks as functions of a flat parameter vector per lane.

Batch normalisation always uses the statistics of the current batch, in training and at test time; there are
no running averages. It would therefore cancel a bias of the convolution before it, so convolutions have none. The
networks compute what the authors' networks compute, with 64 fewer parameters per layer (docs/algorithms.md).

Lanes are independent problems computed side by side: parameters [lanes, parameters] and images
[lanes, batch, channels, height, width]. Each layer computes all lanes as one convolution with `groups=lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.method.architectures import BLOCKS, Architecture, architecture_of
from firstorder.method.tasks import uniforms

BATCH_NORMALISATION_EPSILON = 1e-3


@dataclass(frozen=True)
class Network:
    """A network: the shapes of its parameters in order, and its logits as a function of parameters and images.

    Kernels are [out, height, width, in], PyTorch's channels-last order, so no step has to copy them out of the flat
    vector. Dense weights are [out, in]. `fixed` names parameters that the outer loop learns but the inner loop does not
    change.
    """

    shapes: dict[str, tuple[int, ...]]
    logits: Callable[[Tensor, Tensor], Tensor]
    fixed: tuple[str, ...] = ()
    normal_head: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def adapted(self) -> Tensor | None:
        """Mask [parameters]: 1 where the inner loop changes a parameter, else 0. None if it changes all."""
        if not self.fixed:
            return None
        ones = {name: torch.full(shape, float(name not in self.fixed)) for name, shape in self.shapes.items()}
        return self.flat(ones)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """View one lane's flat vector [parameters] as named tensors."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = flat.split(sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def flat(self, named: dict[str, Tensor]) -> Tensor:
        """Return the flat vector [parameters] of named tensors, the inverse of `named`."""
        return torch.cat([named[name].reshape(-1) for name in self.shapes])

    def initial(self, seed: int) -> Tensor:
        """Draw initial parameters, float32 [parameters], from the seed alone.

        Kernels are Glorot uniform, biases and shifts 0, scales 1: TensorFlow's defaults, which the authors used (their
        models.py). With `normal_head` the dense kernel is standard normal, as in Finn et al.
        """
        parts = []
        for index, (name, shape) in enumerate(self.shapes.items()):
            if name.endswith(("scale", "shift", "bias")):
                parts.append(np.full(shape, float(name.endswith("scale"))))
            elif name == "dense.kernel" and self.normal_head:
                radius, angle = uniforms(2 * math.prod(shape), seed, "initial parameters", index).reshape(2, *shape)
                parts.append(np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle))  # Box and Muller
            else:
                limit = math.sqrt(6 / (math.prod(shape[1:-1]) * (shape[0] + shape[-1])))
                draw = uniforms(math.prod(shape), seed, "initial parameters", index)
                parts.append((2 * draw - 1).reshape(shape) * limit)
        return torch.from_numpy(np.concatenate([part.ravel() for part in parts]).astype(np.float32))


def make_network(network: str | Architecture, way: int) -> Network:
    """Make an architecture, or one of ARCHITECTURES by its name, for `way` classes.

    Images [lanes, batch, channels, size, size] in [0, 1]; logits [lanes, batch, way].
    """
    architecture = architecture_of(network)
    shapes = _shapes(architecture, way)
    sizes = [math.prod(shape) for shape in shapes.values()]

    def logits(parameters: Tensor, images: Tensor) -> Tensor:
        lanes, batch = images.shape[:2]
        parts = dict(zip(shapes, parameters.split(sizes, dim=1), strict=True))
        maps = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        for block in range(1, BLOCKS + 1):  # maps: [batch, lanes * channels, height, width]
            kernel = parts[f"convolution{block}.kernel"]
            kernel = kernel.reshape(lanes * architecture.filters, 3, 3, -1).permute(0, 3, 1, 2)
            scale = parts[f"normalisation{block}.scale"].reshape(-1) if architecture.scale else None
            shift = parts[f"normalisation{block}.shift"].reshape(-1)
            maps = _block(maps, kernel, scale, shift, architecture.pool)
        maps = maps.mean(dim=(2, 3)) if architecture.mean else maps
        features = maps.reshape(batch, lanes, -1).transpose(0, 1)  # [lanes, batch, features]
        weight, bias = parts["dense.kernel"].view(lanes, way, -1), parts["dense.bias"]
        return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))

    fixed = () if architecture.scale else tuple(name for name in shapes if name.endswith("shift"))
    return Network(shapes, logits, fixed, architecture.normal_head)


def _shapes(architecture: Architecture, way: int) -> dict[str, tuple[int, ...]]:
    filters = architecture.filters
    shapes: dict[str, tuple[int, ...]] = {}
    for block, channels in enumerate([architecture.channels] + [filters] * (BLOCKS - 1), start=1):
        shapes[f"convolution{block}.kernel"] = (filters, 3, 3, channels)
        if architecture.scale:
            shapes[f"normalisation{block}.scale"] = (filters,)
        shapes[f"normalisation{block}.shift"] = (filters,)
    positions = 1 if architecture.mean else architecture.map_sizes()[-1] ** 2
    shapes["dense.kernel"] = (way, positions * filters)
    shapes["dense.bias"] = (way,)
    return shapes


def _block(maps: Tensor, kernel: Tensor, scale: Tensor | None, shift: Tensor, pool: str) -> Tensor:
    """Convolve, normalise, apply ReLU and halve the map. Pooling before ReLU gives the same as after it."""
    groups = maps.shape[1] // kernel.shape[1]
    if pool == "stride":
        return F.relu(_normalise(_convolve_same(maps, kernel, groups), scale, shift))
    maps = _normalise(F.conv2d(maps, kernel, padding=1, groups=groups), scale, shift)
    # For an odd size, the last window extends over the edge ("same") or is left out ("valid").
    return F.relu(F.max_pool2d(maps, 2, ceil_mode=pool == "same"))


def _convolve_same(maps: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """3x3 convolution of stride 2 with TensorFlow's "same" padding: for an even size, only after the map."""
    if maps.shape[-1] % 2 == 0:
        return F.conv2d(F.pad(maps, (0, 1, 0, 1)), kernel, stride=2, groups=groups)
    return F.conv2d(maps, kernel, stride=2, padding=1, groups=groups)


def _normalise(maps: Tensor, scale: Tensor | None, shift: Tensor) -> Tensor:
    """Normalise every channel with the statistics of this batch."""
    scale = torch.ones_like(shift) if scale is None else scale
    return F.batch_norm(maps, None, None, scale, shift, training=True, eps=BATCH_NORMALISATION_EPSILON)
