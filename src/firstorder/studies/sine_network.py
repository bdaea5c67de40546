"""The network of Figure 1 and its loss: 1-hidden-hidden-1 as a function of one flat parameter vector per lane.

The loss is the *mean* squared error of a mini-batch; classification uses the sum. The paper (section 4) has
64 hidden units and ReLU. The initial parameters are PyTorch's default, as in the first author's demonstration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from firstorder.method.tasks import uniforms
from firstorder.studies.waves import Numbers

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}

Points = tuple[Tensor, Tensor]  # x and y, each [lanes, points, 1]


@dataclass(frozen=True)
class SineNetwork:
    """The network 1-hidden-hidden-1.

    Weights are [in, out]; the flat vector holds weight and bias, layer by layer.
    """

    hidden: int
    activation: str

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of weight and bias, layer by layer."""
        sizes = (1, self.hidden, self.hidden, 1)
        return [shape for inputs, units in pairwise(sizes) for shape in ((inputs, units), (1, units))]

    def initial(self, seed: int) -> Tensor:
        """Draw initial parameters, float32 [1, parameters]: all from U(-1, 1) / sqrt(inputs of the layer)."""
        parts = []
        for index, shape in enumerate(self.shapes):
            inputs = self.shapes[index - index % 2][0]  # those of the layer's weight
            draw = uniforms(math.prod(shape), seed, "sine initial parameters", index)
            parts.append((2 * draw - 1) / math.sqrt(inputs))
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))[None]

    def predictor(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return y [lanes, points, 1] as a function of parameters [lanes, parameters] and x [lanes, points, 1]."""
        shapes = self.shapes
        sizes = [math.prod(shape) for shape in shapes]
        activate = ACTIVATIONS[self.activation]

        def predict(parameters: Tensor, x: Tensor) -> Tensor:
            parts = [p.view(-1, *shape) for p, shape in zip(parameters.split(sizes, dim=1), shapes, strict=True)]
            features = activate(torch.baddbmm(parts[1], x, parts[0]))
            features = activate(torch.baddbmm(parts[3], features, parts[2]))
            return torch.baddbmm(parts[5], features, parts[4])

        return predict

    def loss(self) -> Callable[[Tensor, Points], Tensor]:
        """Return the mean squared error over a mini-batch of points as a function, one value per lane."""
        predict = self.predictor()

        def loss(parameters: Tensor, batch: Points) -> Tensor:
            x, y = batch
            return (predict(parameters, x) - y).square().mean(dim=(1, 2))

        return loss


def tensor_of(points: Numbers) -> Tensor:
    """Convert x or y [tasks, points] to the network's float32 [tasks, points, 1]."""
    return torch.from_numpy(points.astype(np.float32)).unsqueeze(-1)
