"""Meta-gradients: identities that hold for any network."""

from __future__ import annotations

import itertools

import pytest
import torch

from firstorder.method.algorithms import ALGORITHMS, EXTENSIONS, Group, last_step, maml, reptile
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.method.networks import make_network
from firstorder.method.training import classification_loss


def parabola(parameters: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
    """Return (phi - minimum)^2 / 2 for each lane; the gradient is phi - minimum."""
    return (0.5 * (parameters - minimum[:, None]) ** 2).sum(dim=1)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_reptile_with_one_sgd_step_is_the_ordinary_gradient():
    """Equations 6 and 7: with k = 1 the meta-gradient is alpha times the mean gradient over tasks.

    phi = 1, minima 3 and -2: gradients -2 and 3, mean 0.5, times alpha 0.1.
    """
    start = double(1.0)[None]
    groups = [Group([double(3.0)]), Group([double(-2.0)])]
    meta_gradient, _ = reptile(InnerLoop(parabola, "sgd", 0.1), start, OptimiserState.fresh(start), groups)
    assert meta_gradient.item() == pytest.approx(0.05, rel=1e-14)


def test_reptile_with_sgd_sums_the_inner_gradients():
    """Two steps to minimum 3 from 1 with alpha 0.1: gradients -2 and -1.8; their sum times alpha is -0.38."""
    start = double(1.0)[None]
    groups = [Group([double(3.0), double(3.0)])]
    meta_gradient, _ = reptile(InnerLoop(parabola, "sgd", 0.1), start, OptimiserState.fresh(start), groups)
    assert meta_gradient.item() == pytest.approx(-0.38, rel=1e-14)


def test_carried_second_moments_flow_from_task_to_task():
    """Phi = 1, minima 3 and -2, one Adam step each: v is 0.004 for the second task's step, then 0.012996.

    v1 = 0.001*4 = 0.004; v2 = 0.999*0.004 + 0.001*9 = 0.012996.
    """
    start = double(1.0)[None]
    groups = [Group([double(3.0)]), Group([double(-2.0)])]
    meta_gradient, state = reptile(InnerLoop(parabola, "adam", 0.1), start, OptimiserState.fresh(start), groups)
    assert state.steps == 2
    assert state.second_moments.item() == pytest.approx(0.012996, rel=1e-12)
    first = -0.1 * (1 - 0.999) ** 0.5 * 2 / (0.004**0.5 + 1e-8)
    second = 0.1 * (1 - 0.999**2) ** 0.5 * 3 / (0.012996**0.5 + 1e-8)
    assert meta_gradient.item() == pytest.approx((first + second) / 2, rel=1e-10)


def test_second_moments_per_lane_are_independent():
    """The same two tasks in one group: v = 0.001*4 and 0.001*9, each lane after one step of its own."""
    start = double(1.0)[None]
    state = OptimiserState.fresh(start.expand(2, -1))
    _, state = reptile(InnerLoop(parabola, "adam", 0.1), start, state, [Group([double(3.0, -2.0)])])
    assert state.steps == 1
    assert state.second_moments.flatten().tolist() == pytest.approx([0.004, 0.009], rel=1e-12)


def test_carried_and_per_lane_agree_for_sgd():
    """SGD has no memory, so adapting tasks side by side changes nothing."""
    start = double(1.0)[None]
    inner = InnerLoop(parabola, "sgd", 0.1)
    steps = [double(3.0, -2.0, 5.0), double(1.0, 0.0, 2.0)]
    together, _ = reptile(inner, start, OptimiserState.fresh(start.expand(3, -1)), [Group(steps)])
    apart, _ = reptile(inner, start, OptimiserState.fresh(start), [Group([s[[t]] for s in steps]) for t in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-14, atol=0)


def test_every_trainable_algorithm_is_registered():
    from typing import get_args, get_type_hints

    from firstorder.settings import TrainingSettings

    names = set(get_args(get_type_hints(TrainingSettings)["algorithm"]))
    assert names - set(ALGORITHMS) - set(EXTENSIONS) == {"untrained"}


def smooth(parameters: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return a loss with curvature of every order for each lane: sum of (tanh(w . x) - y)^2 over a mini-batch."""
    inputs, targets = batch  # [lanes, batch, parameters], [lanes, batch]
    return ((torch.tanh((inputs * parameters[:, None]).sum(dim=-1)) - targets) ** 2).sum(dim=1)


def smooth_problem(lanes: int, steps: int) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return phi [1, 6] and `steps` mini-batches of 4 examples for each lane, always the same."""
    generator = torch.Generator().manual_seed(0)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.randn(lanes, 4, 6, generator=generator, dtype=torch.float64)
        return inputs, torch.randn(lanes, 4, generator=generator, dtype=torch.float64)

    return torch.randn(1, 6, generator=generator, dtype=torch.float64), [batch() for _ in range(steps)]


def smooth_gradient(name: str, lanes: int = 3, steps: int = 4, order: int | None = None) -> torch.Tensor:
    start, (*batches, query) = smooth_problem(lanes, steps + 1)
    algorithm = ALGORITHMS[name] if order is None else EXTENSIONS[name](order)
    state = OptimiserState.fresh(start)
    return algorithm(InnerLoop(smooth, "sgd", 0.05), start, state, [Group(batches, query)])[0]


def query_loss(start: torch.Tensor) -> float:
    """Return the mean over tasks of the query loss after adaptation, which MAML minimises."""
    _, (*batches, query) = smooth_problem(3, 5)
    adapted, _ = adapt(
        InnerLoop(smooth, "sgd", 0.05), start.expand(3, -1), OptimiserState.fresh(start.expand(3, -1)), batches
    )
    return smooth(adapted, query).mean().item()


def test_fomaml_is_the_plain_gradient_at_the_adapted_point():
    start, (*batches, query) = smooth_problem(3, 5)
    state = OptimiserState.fresh(start.expand(3, -1))
    adapted, _ = adapt(InnerLoop(smooth, "sgd", 0.05), start.expand(3, -1), state, batches)
    adapted.requires_grad_()
    (plain,) = torch.autograd.grad(smooth(adapted, query).sum(), adapted)
    torch.testing.assert_close(smooth_gradient("fomaml"), plain.mean(dim=0, keepdim=True), rtol=1e-12, atol=0)


def test_maml_is_the_derivative_of_the_query_loss_by_finite_differences():
    start, _ = smooth_problem(3, 5)
    meta_gradient, step = smooth_gradient("maml")[0], 1e-5
    for entry in range(start.shape[1]):
        change = torch.zeros_like(start)
        change[0, entry] = step
        numeric = (query_loss(start + change) - query_loss(start - change)) / (2 * step)
        assert meta_gradient[entry].item() == pytest.approx(numeric, rel=1e-6)


def test_the_binomial_truncation_goes_from_fomaml_to_maml():
    """Order 0 is FOMAML, the number of inner steps is MAML, and higher orders add nothing."""
    torch.testing.assert_close(smooth_gradient("binomial", order=0), smooth_gradient("fomaml"), rtol=1e-10, atol=0)
    for order in (4, 6):
        exact = smooth_gradient("maml")
        torch.testing.assert_close(smooth_gradient("binomial", order=order), exact, rtol=1e-10, atol=1e-14)


def test_the_error_of_the_binomial_truncation_falls_with_its_order():
    exact = smooth_gradient("maml")
    errors = [(smooth_gradient("binomial", order=order) - exact).norm().item() for order in range(5)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 1e-12 * exact.norm().item()


@pytest.mark.parametrize("name", ["fomaml", "maml", "binomial"])
def test_splitting_the_tasks_into_groups_does_not_change_the_meta_gradient(name):
    start, batches = smooth_problem(3, 5)
    algorithm = EXTENSIONS[name](2) if name in EXTENSIONS else ALGORITHMS[name]
    apart = [[(x[[task]], y[[task]]) for x, y in batches] for task in range(3)]
    split, _ = algorithm(
        InnerLoop(smooth, "sgd", 0.05),
        start,
        OptimiserState.fresh(start),
        [Group(task[:-1], task[-1]) for task in apart],
    )
    together = smooth_gradient(name, order=2 if name in EXTENSIONS else None)
    torch.testing.assert_close(split, together, rtol=1e-12, atol=1e-15)


def test_the_last_step_alone_is_alpha_times_its_gradient():
    """From 1 towards 3 with alpha 0.1: after the first step 1.2, so the second moves by 0.18."""
    start = double(1.0)[None]
    inner, state = InnerLoop(parabola, "sgd", 0.1), OptimiserState.fresh(start)
    shared, _ = last_step(inner, start, state, [Group([double(3.0), double(3.0)])])
    assert shared.item() == pytest.approx(-0.18, rel=1e-14)
    separate, _ = last_step(inner, start, state, [Group([double(3.0)], double(0.2))])
    assert separate.item() == pytest.approx(0.1, rel=1e-14)  # from 1.2 towards 0.2


def test_the_last_step_of_adam_is_preconditioned_by_all_second_moments():
    """Two steps from 1 towards 3 with Adam: the displacement of the second step, whose v includes both gradients."""
    start = double(1.0)[None]
    inner = InnerLoop(parabola, "adam", 0.1)
    ends = [adapt(inner, start, OptimiserState.fresh(start), [double(3.0)] * steps)[0] for steps in (1, 2)]
    found, state = last_step(inner, start, OptimiserState.fresh(start), [Group([double(3.0)] * 2)])
    torch.testing.assert_close(found, ends[0] - ends[1], rtol=1e-14, atol=0)
    assert state.steps == 2


def test_parameters_that_are_not_adapted_have_a_meta_gradient():
    """With a mask, the inner loop does not change half of the parameters, but MAML's gradient includes them."""
    start, (*batches, query) = smooth_problem(3, 3)
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    inner = InnerLoop(smooth, "sgd", 0.05, mask)
    state = OptimiserState.fresh(start.expand(3, -1))
    adapted, _ = adapt(inner, start.expand(3, -1), state, batches)
    assert torch.equal(adapted[:, 3:], start.expand(3, -1)[:, 3:])
    assert (adapted[:, :3] != start[:, :3]).all()
    exact, _ = maml(inner, start, OptimiserState.fresh(start), [Group(batches, query)])
    assert exact[0, 3:].abs().min() > 1e-3
    full, _ = EXTENSIONS["binomial"](2)(inner, start, OptimiserState.fresh(start), [Group(batches, query)])
    torch.testing.assert_close(full, exact, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("network", ["omniglot_finn", "omniglot"])
def test_maml_through_a_real_network_agrees_with_finite_differences(network):
    """Along a random direction, through two inner steps with convolutions and batch normalisation."""
    generator = torch.Generator().manual_seed(0)
    net = make_network(network, 3)
    inner = InnerLoop(classification_loss(net), "sgd", 0.01, net.adapted)
    start = net.initial(0)[None].double()
    images = torch.randint(0, 2, (3, 2, 6, 1, 28, 28), generator=generator).double()
    labels = torch.arange(6).expand(2, -1) % 3
    batches = [(images[step], labels) for step in range(3)]
    state = OptimiserState.fresh(start)
    found, _ = maml(inner, start, state, [Group(batches[:2], batches[2])])
    direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm()  # short, so that no ReLU changes sign

    def loss(phi: torch.Tensor) -> float:
        adapted, _ = adapt(inner, phi.expand(2, -1), state.lanes(2), batches[:2])
        return inner.loss(adapted, batches[2]).mean().item()

    step = 1e-6
    numeric = (loss(start + step * direction) - loss(start - step * direction)) / (2 * step)
    assert (found * direction).sum().item() == pytest.approx(numeric, rel=1e-6)
