"""Meta-learning algorithms: one function each, one registry.

A newcomer would get wrong: an algorithm returns a meta-gradient, the direction that the outer step goes
*against*: phi <- phi - epsilon * meta_gradient. For Reptile that is the mean of phi - adapted parameters,
so the outer step is equation 5's phi + epsilon * mean(adapted - phi).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from firstorder.inner_loop import InnerLoop, OptimiserState, adapt

# The tasks of an outer step, in groups that are adapted one after another; the lanes of a group are adapted
# side by side. `groups[g][s]` is the mini-batch of step s for all lanes of group g.
Groups = Sequence[Sequence[Any]]
Algorithm = Callable[[InnerLoop, Tensor, OptimiserState, Groups], tuple[Tensor, OptimiserState]]


def reptile(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> tuple[Tensor, OptimiserState]:
    """Reptile, Algorithm 2: the mean over tasks of phi - U^k(phi).

    `initial` is phi [1, parameters]. The optimiser's state goes from group to group: with a task a group
    its second moments are carried through all tasks, as in the authors' code; with all tasks in one group
    every lane keeps its own. Returns the meta-gradient [1, parameters] and the state after the last group.
    """
    displacements = []
    for batches in groups:
        start = initial.expand(len(state.second_moments), -1)
        adapted, state = adapt(inner, start, state, batches)
        displacements.append(start - adapted)
    return torch.cat(displacements).mean(dim=0, keepdim=True), state


ALGORITHMS: dict[str, Algorithm] = {"reptile": reptile}
