"""Reptile in one file. Algorithms, equations and tables are those of the paper, arXiv 1803.02999.

`.venv/bin/python examples/reptile.py`: 200 outer steps on unrotated glyphs, 90 s on one core; the rest as in Table 3.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from firstorder.data.glyphs import make_pack

Batches = list[tuple[Tensor, Tensor]]  # a task's mini-batches: images [batch, 1, 28, 28] and labels [batch]


def sample_task(characters: Tensor, shot: int, steps: int, batch: int, way: int = 5) -> tuple[Batches, Tensor]:
    """Sample a task from [characters, drawings, 1, 28, 28]: its mini-batches, and one query image per class."""
    classes = characters[torch.randperm(len(characters))[:way]]
    drawings = torch.stack([drawn[torch.randperm(len(drawn))[: shot + 1]] for drawn in classes])
    images, labels = drawings[:, :shot].flatten(0, 1), torch.arange(way).repeat_interleave(shot)
    # Cycle through the images, reshuffling when all have been used. Mini-batches are not balanced by class.
    dealt = torch.cat([torch.randperm(len(images)) for _ in range(1 + steps * batch // len(images))])[: steps * batch]
    return [(images[some], labels[some]) for some in dealt.split(batch)], drawings[:, shot]


def make_network(way: int = 5) -> nn.Sequential:
    """Make the authors' network, with TensorFlow's initial values: images [batch, 1, 28, 28] to logits [batch, way]."""
    layers: list[nn.Module] = []
    for size, channels in ((28, 1), (14, 64), (7, 64), (4, 64)):
        padding = nn.ZeroPad2d(1 if size % 2 else (0, 1, 0, 1))  # TensorFlow's "same": no padding before an even size
        convolution = nn.Conv2d(channels, 64, 3, stride=2, bias=False)  # the normalisation would cancel a bias
        nn.init.xavier_uniform_(convolution.weight)
        # Batch normalisation always uses the statistics of the current batch, in evaluation too.
        layers += [padding, convolution, nn.BatchNorm2d(64, eps=1e-3, track_running_stats=False), nn.ReLU()]
    head = nn.Linear(2 * 2 * 64, way)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, nn.Flatten(), head)


class Adam:
    """Adam with beta1 = 0 (no momentum), in TensorFlow's form: it corrects the step size, not the moments."""

    def __init__(self, network: nn.Module) -> None:
        self.second_moments, self.steps = [torch.zeros_like(parameter) for parameter in network.parameters()], 0

    def step(self, network: nn.Module, loss: Tensor) -> None:
        """Move the network's parameters against the gradient of the loss."""
        gradients = torch.autograd.grad(loss, [*network.parameters()])
        self.steps += 1
        rate = 0.001 * (1 - 0.999**self.steps) ** 0.5
        with torch.no_grad():
            for parameter, moment, gradient in zip(network.parameters(), self.second_moments, gradients, strict=True):
                moment.copy_(0.999 * moment + 0.001 * gradient**2)
                parameter.sub_(rate * gradient / (moment.sqrt() + 1e-8))


def adapt(network: nn.Module, adam: Adam, batches: Batches) -> nn.Module:
    """Return a copy of the network after one step on each of k mini-batches: U^k(phi) of Algorithm 1, line 4."""
    adapted = copy.deepcopy(network)
    for images, labels in batches:
        adam.step(adapted, nn.functional.cross_entropy(adapted(images), labels, reduction="sum"))  # not the mean
    return adapted


def train(network: nn.Module, adam: Adam, meta_batches: Iterable[list[Batches]], outer_steps: int) -> None:
    """Update the network's parameters phi by Reptile: Algorithm 2, or 1 if a meta-batch is one task."""
    for step, tasks in enumerate(meta_batches):
        adapted = [adapt(network, adam, batches) for batches in tasks]  # in order: Adam's moments are never reset
        epsilon = 1 - step / outer_steps  # annealed linearly (appendix A)
        with torch.no_grad():
            for phi, *ends in zip(network.parameters(), *(end.parameters() for end in adapted), strict=True):
                phi += epsilon * (torch.stack(ends) - phi).mean(dim=0)  # equation 5


def evaluate(network: nn.Module, adam: Adam, tasks: list[tuple[Batches, Tensor]]) -> float:
    """Return the accuracy after adaptation: "Reptile + Transduction" in Tables 1 and 2."""
    # Every task starts from the trained second moments. Transductive: all query images are normalised together.
    answers = [adapt(network, copy.deepcopy(adam), batches)(query).argmax(dim=1) for batches, query in tasks]
    return (torch.stack(answers) == torch.arange(len(answers[0]))).double().mean().item()


def main(outer_steps: int = 200, test_tasks: int = 50) -> None:
    """Train on three quarters of the characters; print the accuracy on the rest before and after."""
    torch.manual_seed(0)
    characters = torch.from_numpy(make_pack().images).float()  # ink 0, paper 1
    old, new = characters[torch.randperm(len(characters))].tensor_split([len(characters) * 3 // 4])
    network = make_network()
    adam = Adam(network)
    tests = [sample_task(new, shot=1, steps=50, batch=5) for _ in range(test_tasks)]
    print(f"Accuracy on {len(new)} new characters before training: {100 * evaluate(network, adam, tests):.1f} %")
    tasks = ([sample_task(old, shot=10, steps=5, batch=10)[0] for _ in range(5)] for _ in range(outer_steps))
    train(network, adam, tasks, outer_steps)
    print(f"After {outer_steps} outer steps on {len(old)} others: {100 * evaluate(network, adam, tests):.1f} %")


if __name__ == "__main__":
    torch.set_num_threads(1)  # more would only wait for each other on a busy machine
    main()
