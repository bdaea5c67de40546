"""The meta-learning algorithms: one function each, and a registry.

Every algorithm returns a meta-gradient, and the outer step moves *against* it: phi <- phi - epsilon * meta_gradient.
Reptile's meta-gradient is the mean of phi - adapted parameters, so that the outer step is equation 5's
phi + epsilon * mean(adapted - phi). It has the size of inner steps, not of gradients: with SGD it is alpha times a sum
of gradients.

Several seeds of a training can be computed side by side. `initial` and the meta-gradient then have one row per seed,
and the lanes of a group are the tasks of the first seed, then those of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt, gradient, hessian_product, points


@dataclass(frozen=True)
class Group:
    """Tasks that are adapted side by side, one per lane. The groups of an outer step are processed in order.

    `batches[s]` is the mini-batch of inner step s for all lanes. `query` is a mini-batch of other images: MAML's query
    set or the paper's separate tail; None if the algorithm needs none.
    """

    batches: Sequence[Any]
    query: Any = None


Groups = Sequence[Group]
Found = tuple[Tensor, OptimiserState]  # a meta-gradient [seeds, parameters] and the optimiser's state after it
Algorithm = Callable[[InnerLoop, Tensor, OptimiserState, Groups], Found]


def reptile(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> Found:
    """Reptile, Algorithm 2 (and 1, with one task): the mean over tasks of phi - U^k(phi).

    `initial` is phi [seeds, parameters]. The optimiser's state is passed from group to group: with one task per group,
    through all tasks, as in the authors' code; with all in one group, every lane keeps its own. Returns the
    meta-gradient [seeds, parameters] and the state after the last group.
    """
    displacements = []
    for group in groups:
        start = _spread(initial, len(state.second_moments))
        adapted, state = adapt(inner, start, state, group.batches)
        displacements.append(start - adapted)
    return _mean(displacements, len(initial)), state


def last_step(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> Found:
    """FOMAML as sections 6.2 and 6.3 study it: the displacement of the last inner step only.

    The last mini-batch is one of the inner loop's (shared tail) or, if there is one, the whole `query` (separate tail).
    With SGD the displacement is alpha times the gradient at the adapted parameters. With Adam it is the preconditioned
    last step, as in the authors' class FOML, which is not the FOMAML of Finn et al.
    """
    displacements = []
    for group in groups:
        *first, tail = [*group.batches] if group.query is None else [*group.batches, group.query]
        start = _spread(initial, len(state.second_moments))
        before, state = adapt(inner, start, state, first)
        after, state = adapt(inner, before, state, [tail])
        displacements.append(before - after)
    return _mean(displacements, len(initial)), state


def fomaml(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> Found:
    """First-order MAML of Finn et al.: the gradient of the query loss at the adapted parameters.

    Section 3: g_FOMAML = L'_B(U_A(phi)), treating the derivative of U_A as the identity. Mean over tasks.
    """
    gradients = []
    for group in groups:
        adapted, _ = adapt(inner, *_start(initial, state, group), group.batches)
        gradients.append(gradient(inner, adapted, group.query))
    return _mean(gradients, len(initial)), state


def maml(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> Found:
    """MAML of Finn et al., second order: the gradient of the query loss through all inner steps.

    Equation 4: g_MAML = U'_A(phi) L'_B(U_A(phi)). Mean over tasks.
    """
    through = inner.engine.gradient_through
    found = [through(inner, *_start(initial, state, group), group.batches, group.query) for group in groups]
    return _mean(found, len(initial)), state


def binomial(order: int) -> Algorithm:
    """Return the binomial truncation of MAML's meta-gradient to `order` L (an extension: BinomMAML, arXiv 2604.13263).

    With SGD, MAML's meta-gradient is the product over inner steps j of (I - alpha H_j), times the query gradient. H_j
    is the Hessian of step j's loss at the parameters where that step starts. The truncation multiplies the product out
    and drops all terms with more than L Hessians: L = 0 is FOMAML, L = the number of inner steps is MAML.
    """

    def truncated(inner: InnerLoop, initial: Tensor, state: OptimiserState, groups: Groups) -> Found:
        gradients = []
        for group in groups:
            starts = points(inner, *_start(initial, state, group), group.batches)
            # terms[l] is the sum of all products with exactly l Hessians, over the steps seen so far (last step first).
            terms = [gradient(inner, starts[-1], group.query)]
            for point, batch in zip(starts[-2::-1], reversed(group.batches), strict=True):
                products = [hessian_product(inner, point, batch, term) for term in terms[:order]]
                terms += [torch.zeros_like(terms[0])] * (min(order, len(terms)) + 1 - len(terms))
                for hessians, product in enumerate(products, start=1):
                    terms[hessians] = terms[hessians] - inner.learning_rate * product
            gradients.append(torch.stack(terms).sum(dim=0))
        return _mean(gradients, len(initial)), state

    return truncated


ALGORITHMS: dict[str, Algorithm] = {
    "reptile": reptile,
    "joint": reptile,  # Reptile with one inner step (equations 6 and 7); settings/checks.py requires inner_steps = 1
    "last_step": last_step,
    "fomaml": fomaml,
    "maml": maml,
}
EXTENSIONS: dict[str, Callable[[int], Algorithm]] = {"binomial": binomial}  # beyond the paper


def _spread(rows: Tensor, lanes: int) -> Tensor:
    """Repeat `rows` [seeds, parameters] to [lanes, parameters]: each lane gets the row of its seed."""
    return rows[:, None].expand(-1, lanes // len(rows), -1).reshape(lanes, -1)


def _start(initial: Tensor, state: OptimiserState, group: Group) -> tuple[Tensor, OptimiserState]:
    """Return phi and the optimiser's state, repeated for every lane of a group."""
    lanes = len(group.query[1] if isinstance(group.query, tuple) else group.query)
    return _spread(initial, lanes), state.each(lambda moments: _spread(moments, lanes))


def _mean(groups: Sequence[Tensor], seeds: int) -> Tensor:
    """Return the mean of `groups` ([lanes, parameters] each) over the tasks of each seed: [seeds, parameters]."""
    return torch.cat([lanes.unflatten(0, (seeds, -1)) for lanes in groups], dim=1).mean(dim=1)
