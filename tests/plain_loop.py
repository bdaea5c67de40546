"""A second, independent and plain implementation of Reptile, with which the package is compared.

It shares no code with the package. Tasks are adapted one after another, parameters are a dictionary of tensors,
convolutions have biases as in the authors' code, and batch normalisation and Adam are written out from their
definitions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = dict[str, Tensor]


def features(parameters: Parameters, images: Tensor) -> Tensor:
    """Compute the last map [batch, 64, 2, 2] of images [batch, 1, 28, 28]; scale, shift and bias may be absent."""
    maps = images
    for block in range(1, 5):
        size = maps.shape[-1]
        total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)  # TensorFlow's "same"
        before = total // 2
        maps = F.pad(maps, (before, total - before, before, total - before))
        maps = F.conv2d(maps, parameters[f"kernel{block}"], parameters.get(f"bias{block}"), stride=2)
        mean = maps.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((maps - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        maps = (maps - mean) / torch.sqrt(variance + 1e-3)
        if f"gamma{block}" in parameters:
            maps = maps * parameters[f"gamma{block}"][:, None, None] + parameters[f"beta{block}"][:, None, None]
        maps = torch.clamp(maps, min=0)
    return maps


def logits(parameters: Parameters, images: Tensor) -> Tensor:
    """Compute the logits of the authors' Omniglot network: images [batch, 1, 28, 28] to logits [batch, way]."""
    flat = features(parameters, images).reshape(len(images), -1)
    return flat @ parameters["dense"] + parameters["dense_bias"]


def summed_cross_entropy(parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy, summed (not averaged) over the mini-batch."""
    scores = logits(parameters, images)
    chosen = scores[torch.arange(len(labels)), labels]
    return (torch.logsumexp(scores, dim=1) - chosen).sum()


def gradients(parameters: Parameters, images: Tensor, labels: Tensor) -> Parameters:
    """Return the gradient of the summed cross entropy."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    summed_cross_entropy(leaves, images, labels).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


class Adam:
    """TensorFlow 1's Adam: beta1^t and beta2^t as running products, epsilon outside the root."""

    def __init__(self, parameters: Parameters, learning_rate: float, beta1: float = 0.0) -> None:
        """Start with moments of zero."""
        self.learning_rate = learning_rate
        self.beta1, self.beta1_power, self.beta2_power = beta1, beta1, 0.999
        self.first = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.moments = {name: torch.zeros_like(value) for name, value in parameters.items()}

    def step(self, parameters: Parameters, gradient: Parameters) -> Parameters:
        """Return the parameters after one step."""
        rate = self.learning_rate * (1 - self.beta2_power) ** 0.5 / (1 - self.beta1_power)
        moved = {}
        for name, value in parameters.items():
            self.moments[name] = 0.999 * self.moments[name] + 0.001 * gradient[name] ** 2
            self.first[name] = self.beta1 * self.first[name] + (1 - self.beta1) * gradient[name]
            moved[name] = value - rate * self.first[name] / (self.moments[name] ** 0.5 + 1e-8)
        self.beta1_power *= self.beta1
        self.beta2_power *= 0.999
        return moved


class Sgd:
    """Plain gradient descent."""

    def __init__(self, parameters: Parameters, learning_rate: float) -> None:
        """Take the learning rate. There is no state."""
        self.learning_rate = learning_rate

    def step(self, parameters: Parameters, gradient: Parameters) -> Parameters:
        """Return the parameters after one step."""
        return {name: value - self.learning_rate * gradient[name] for name, value in parameters.items()}


def reptile_step(
    parameters: Parameters, optimiser: Adam | Sgd, images: Tensor, labels: Tensor, epsilon: float
) -> Parameters:
    """Take one outer step on images [tasks, steps, batch, 1, 28, 28]: tasks in sequence, one optimiser for all."""
    ends = []
    for task in range(len(images)):
        current = parameters
        for step in range(images.shape[1]):
            current = optimiser.step(current, gradients(current, images[task, step], labels[task, step]))
        ends.append(current)
    mean = {name: sum(end[name] for end in ends) / len(ends) for name in parameters}
    return {name: value + epsilon * (mean[name] - value) for name, value in parameters.items()}
