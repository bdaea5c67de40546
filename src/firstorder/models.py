"""Networks as functions of one flat parameter vector a lane.

A newcomer would get wrong: batch normalisation always takes its statistics from the batch at hand, in
training and at test alike; running averages do not exist here. Therefore a bias on a
convolution would be cancelled by the normalisation behind it, and there is none: the networks compute
what the authors' do with 64 parameters fewer a layer (docs/algorithms.md).

Lanes are independent problems side by side: parameters [lanes, parameters] meet images
[lanes, batch, channels, height, width]. All lanes of a layer are one convolution with `groups=lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.tasks import uniforms

BATCH_NORMALISATION_EPSILON = 1e-3


@dataclass(frozen=True)
class Network:
    """A network: the shapes of its parameters in order, and its logits as a function of them.

    Kernels are [out, height, width, in], so that a flat vector holds them in the order that PyTorch calls
    channels last and no step copies them; dense weights are [out, in].
    """

    shapes: dict[str, tuple[int, ...]]
    logits: Callable[[Tensor, Tensor], Tensor]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

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

        Glorot-uniform kernels, zero biases and shifts, unit scales: TensorFlow's defaults, which the
        authors used (their models.py).
        """
        parts = []
        for index, (name, shape) in enumerate(self.shapes.items()):
            if name.endswith("scale"):
                parts.append(np.ones(shape))
            elif name.endswith(("shift", "bias")):
                parts.append(np.zeros(shape))
            else:
                field = math.prod(shape[1:-1])
                limit = math.sqrt(6 / (field * (shape[0] + shape[-1])))
                draw = uniforms(math.prod(shape), seed, "initial parameters", index)
                parts.append((2 * draw - 1).reshape(shape) * limit)
        return torch.from_numpy(np.concatenate([part.ravel() for part in parts]).astype(np.float32))


def omniglot_network(way: int) -> Network:
    """Four 3x3 convolutions of 64 filters and stride 2, each normalised and rectified, and a dense head.

    Images [lanes, batch, 1, 28, 28] in [0, 1]; logits [lanes, batch, way]. Spatial sizes 14, 7, 4, 2; the
    2 x 2 x 64 map is flattened, not averaged (the authors' models.py).
    """
    filters, blocks = 64, 4
    shapes: dict[str, tuple[int, ...]] = {}
    for block, channels in enumerate([1] + [filters] * (blocks - 1), start=1):
        shapes[f"convolution{block}.kernel"] = (filters, 3, 3, channels)
        shapes[f"normalisation{block}.scale"] = (filters,)
        shapes[f"normalisation{block}.shift"] = (filters,)
    shapes["dense.kernel"] = (way, 2 * 2 * filters)
    shapes["dense.bias"] = (way,)
    sizes = [math.prod(shape) for shape in shapes.values()]

    def logits(parameters: Tensor, images: Tensor) -> Tensor:
        lanes, batch = images.shape[:2]
        parts = parameters.split(sizes, dim=1)
        maps = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        for block in range(blocks):  # maps: [batch, lanes * channels, height, width]
            kernel, scale, shift = parts[3 * block : 3 * block + 3]
            channels = 1 if block == 0 else filters
            kernel = kernel.reshape(lanes * filters, 3, 3, channels).permute(0, 3, 1, 2)
            maps = _convolve_same(maps, kernel, groups=lanes)
            maps = F.relu(_normalise(maps, scale.reshape(-1), shift.reshape(-1)))
        features = maps.reshape(batch, lanes, -1).transpose(0, 1)  # [lanes, batch, 256]
        weight, bias = parts[-2].view(lanes, way, -1), parts[-1]
        return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))

    return Network(shapes, logits)


NETWORKS: dict[str, Callable[[int], Network]] = {"omniglot": omniglot_network}


def _convolve_same(maps: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """3x3 convolution of stride 2 with TensorFlow's "same" padding.

    On an even size that is nothing before and one after, which `padding=1` of PyTorch is not.
    """
    if maps.shape[-1] % 2 == 0:
        return F.conv2d(F.pad(maps, (0, 1, 0, 1)), kernel, stride=2, groups=groups)
    return F.conv2d(maps, kernel, stride=2, padding=1, groups=groups)


def _normalise(maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch normalisation of every channel with the statistics of this batch."""
    return F.batch_norm(maps, None, None, scale, shift, training=True, eps=BATCH_NORMALISATION_EPSILON)
