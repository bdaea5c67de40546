"""Compare engine `lanes` with the plain engine: equal in float64 up to rounding, less closely in other precisions."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch

from firstorder.engines.lanes import engine, patches, pieces
from firstorder.engines.lanes.engine import LanesEngine, Prepared
from firstorder.engines.lanes.patches import Convolution, make_tables
from firstorder.method import inner_loop
from firstorder.method.architectures import ARCHITECTURES, Architecture, architecture_of
from firstorder.method.inner_loop import InnerLoop, OptimiserState
from firstorder.method.networks import make_network
from firstorder.method.training import classification_loss
from firstorder.settings import ImageSettings, TrainingSettings
from tests import count_kernels, kinks

WAY, BATCH = 3, 4
# Seeds of problems with one image per lane in which no ReLU or maximum is within 2.5e-5 of its kink.
SEPARATED = {"omniglot": 724, "mini_imagenet": 185, "omniglot_finn": 947, "mini_imagenet_finn": 86}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def both(
    name: str | Architecture, optimiser: str = "sgd", device: str = "cpu", **options: Any
) -> tuple[InnerLoop, InnerLoop]:
    """Return the inner loop of a network with the plain engine, and with `lanes`."""
    network = make_network(name, WAY)
    adapted = None if network.adapted is None else network.adapted.to(device)
    plain = InnerLoop(classification_loss(network), optimiser, 0.01 if optimiser == "sgd" else 1e-3, adapted)
    return plain, dataclasses.replace(plain, engine=LanesEngine(name, WAY, **options))


def problem(
    name: str | Architecture,
    count: int = 2,
    steps: int = 1,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    batch: int = BATCH,
    seed: int = 7,
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return parameters of `count` lanes, each near another initial state, and mini-batches of noise."""
    network, sizes = make_network(name, WAY), architecture_of(name)
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.stack([network.initial(lane) for lane in range(count)]).double()
    parameters += 0.05 * torch.randn(parameters.shape, generator=generator, dtype=torch.float64)
    images = torch.rand(
        steps, count, batch, sizes.channels, sizes.size, sizes.size, generator=generator, dtype=torch.float64
    )
    labels = torch.randint(0, WAY, (steps, count, batch), generator=generator)
    batches = [(images[step].to(device, dtype), labels[step].to(device)) for step in range(steps)]
    return parameters.to(device, dtype), batches


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Assert that the difference is at most `tolerance` of the expected size."""
    assert torch.isfinite(found).all()
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradient_equal_those_of_autograd_in_float64(name, device):
    plain, fast = both(name, device=device)
    parameters, (batch,) = problem(name, device=device)
    close(fast.engine.logits(fast, parameters, batch[0]), make_network(name, WAY).logits(parameters, batch[0]), 1e-12)
    expected = inner_loop.gradient(plain, parameters, batch)
    found = inner_loop.gradient(fast, parameters, batch)
    for piece, wanted in make_network(name, WAY).named(expected[0]).items():
        close(make_network(name, WAY).named(found[0])[piece], wanted, 1e-11)
    close(found, expected, 1e-12)


@pytest.mark.parametrize("sizes", [(16, 1, 16), (23, 2, 20), (32, 3, 48)], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_images_of_any_size_give_the_gradient_of_autograd(name, sizes):
    size, channels, filters = sizes
    own = architecture_of(name, ImageSettings(size=size, channels=channels, filters=filters))
    plain, fast = both(own)
    parameters, (batch,) = problem(own)
    close(inner_loop.gradient(fast, parameters, batch), inner_loop.gradient(plain, parameters, batch), 1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_hessian_product_equals_that_of_autograd_in_float64(name, device):
    plain, fast = both(name, device=device)
    parameters, (batch,) = problem(name, device=device)
    vector = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    expected = inner_loop.hessian_product(plain, parameters, batch, vector)
    close(inner_loop.hessian_product(fast, parameters, batch, vector), expected, 1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["omniglot", "mini_imagenet_finn"])
def test_adaptation_equals_that_of_the_plain_engine_in_float64(name, optimiser, device):
    """Three steps from nonzero second moments, as from zero a step would be the sign of a rounding error."""
    plain, fast = both(name, optimiser, device)
    parameters, batches = problem(name, steps=3, device=device)
    moments = torch.rand(parameters.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)
    state = OptimiserState(1e-3 * moments, 40)
    expected, after = inner_loop.adapt(plain, parameters, state, batches)
    before = parameters.clone()
    found, found_after = inner_loop.adapt(fast, parameters, state, batches)
    close(found - parameters, expected - parameters, 1e-11)
    close(found_after.second_moments, after.second_moments, 1e-11)
    assert found_after.steps == after.steps
    assert torch.equal(parameters, before)
    assert torch.equal(state.second_moments, 1e-3 * moments)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_gradient_in_float32_differs_by_rounding(name, device):
    """Compare where rounding decides no sign or maximum. With more than one image per lane such points are rare."""
    plain, fast = both(name, device=device)
    parameters, (batch,) = problem(name, dtype=torch.float32, device=device, batch=1, seed=SEPARATED[name])
    with kinks.watched() as seen:
        make_network(name, WAY).logits(parameters.double(), batch[0].double())
    nearest = min(decisions.distance.min().item() for decisions in seen)
    assert nearest > 2.5e-5, "errors of float32 reach 1e-5 there: look for another seed"
    expected = inner_loop.gradient(plain, parameters, batch)
    close(inner_loop.gradient(fast, parameters, batch), expected, 1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_gradient_in_float32_differs_by_a_few_decisions_at_most(name, device):
    """In the worst case seven decisions are within 1e-5 and change the gradient by 0.6 % (docs/evidence.md)."""
    plain, fast = both(name, device=device)
    parameters, (batch,) = problem(name, dtype=torch.float32, device=device)
    close(inner_loop.gradient(fast, parameters, batch), inner_loop.gradient(plain, parameters, batch), 1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_products_keep_the_gradients_direction(device):
    """With eight bits of mantissa, the initial gradient of this network has errors of about a tenth."""
    plain, fast = both("omniglot", device=device, precision="bfloat16")
    parameters, (batch,) = problem("omniglot", dtype=torch.float32, device=device)
    expected = inner_loop.gradient(plain, parameters, batch)
    found = inner_loop.gradient(fast, parameters, batch)
    assert found.dtype == torch.float32
    close(found, expected, 0.3)
    assert (found - expected).norm() > 1e-4 * expected.norm()


def test_tf32_is_set_during_the_engines_products_only(monkeypatch):
    """It has an effect on a GPU only, so the test looks at the setting."""
    _, fast = both("omniglot", precision="tf32")
    parameters, (batch,) = problem("omniglot", dtype=torch.float32)
    seen = []
    original = engine._loss_gradient
    monkeypatch.setattr(
        engine, "_loss_gradient", lambda *a: (seen.append(torch.get_float32_matmul_precision()), original(*a))[1]
    )
    inner_loop.gradient(fast, parameters, batch)
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_rates_on_the_device_replace_the_step_count():
    parameters, batches = problem("omniglot", steps=3)
    state = OptimiserState(torch.full_like(parameters, 1e-3), 20)
    _, fast = both("omniglot", "adam")
    expected, _ = inner_loop.adapt(fast, parameters, state, batches)
    rates = torch.tensor([1e-3 * (1 - 0.999**step) ** 0.5 for step in (21, 22, 23)], dtype=torch.float64)
    _, by_tensor = both("omniglot", "adam", rates=rates)
    found, after = inner_loop.adapt(by_tensor, parameters, dataclasses.replace(state, steps=0), batches)
    close(found - parameters, expected - parameters, 1e-12)
    assert after.steps == 3


def test_a_mini_batch_may_be_prepared_or_a_function():
    _, fast = both("omniglot")
    parameters, batches = problem("omniglot", steps=2)
    assert isinstance(fast.engine, LanesEngine)
    images, labels = (torch.stack(parts, dim=1) for parts in zip(*batches, strict=True))
    whole = fast.engine.prepare(images, labels)
    for step, batch in enumerate(batches):
        expected = inner_loop.gradient(fast, parameters, batch)
        prepared = Prepared(whole.patches[:, step], whole.targets[:, step])
        assert len(prepared) == 2
        assert torch.equal(inner_loop.gradient(fast, parameters, prepared), expected)
        assert torch.equal(inner_loop.gradient(fast, parameters, lambda batch=batch: batch), expected)


def test_many_lanes_are_reordered_without_a_table(monkeypatch):
    parameters, batches = problem("omniglot", count=3)
    _, fast = both("omniglot")
    expected, _ = inner_loop.adapt(fast, parameters, OptimiserState.fresh(parameters), batches)
    monkeypatch.setattr(pieces, "LANES_BY_TABLE", 2)
    _, again = both("omniglot")
    found, _ = inner_loop.adapt(again, parameters, OptimiserState.fresh(parameters), batches)
    assert torch.equal(found, expected)


def test_lanes_are_independent():
    """Alone and beside another, a lane's gradient is the same up to the last bits of float64."""
    _, fast = both("mini_imagenet")
    parameters, ((images, labels),) = problem("mini_imagenet", count=2)
    together = inner_loop.gradient(fast, parameters, (images, labels))
    alone = inner_loop.gradient(fast, parameters[1:], (images[1:], labels[1:]))
    close(together[1:], alone, 1e-13)


@pytest.mark.parametrize("size", [4, 7, 28])
@pytest.mark.parametrize("stride", [1, 2])
def test_folding_is_the_transpose_of_gathering(size, stride):
    """<gather(x), y> = <x, fold(y)> for all x and y."""
    convolution = Convolution(size, stride)
    tables = make_tables(convolution, lanes=2, batch=3, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3 * size**2 * 2 + 1, 5, generator=generator, dtype=torch.float64)
    rows[-1] = 0
    taken = patches.gather(rows, tables, 2)
    entries = torch.randn(taken.numel() // 5 + 1, 5, generator=generator, dtype=torch.float64)
    folded = patches.fold(entries, tables)
    left, right = (taken.reshape(-1, 5) * entries[:-1]).sum(), (rows[:-1] * folded).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-12)
    assert torch.equal(patches.gather_plainly(rows[:-1], tables, 2), taken)
    torch.testing.assert_close(patches.fold_plainly(entries[:-1], tables), folded, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["omniglot", "mini_imagenet"])
def test_operations_for_torch_compile_give_the_same_result(name, monkeypatch):
    """The function that would be compiled is called without compiling it."""
    monkeypatch.setattr(engine, "_compiled", lambda function: function)
    _, fast = both(name, "adam")
    _, joinable = both(name, "adam", compiled=True)
    parameters, batches = problem(name, steps=2)
    state = OptimiserState(torch.full_like(parameters, 1e-3), 5)
    expected, _ = inner_loop.adapt(fast, parameters, state, batches)
    found, _ = inner_loop.adapt(joinable, parameters, state, batches)
    close(found - parameters, expected - parameters, 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_step_is_the_plain_one(device):
    plain, fast = both("omniglot", device=device, compiled=True)
    parameters, (batch,) = problem("omniglot", dtype=torch.float32, device=device)
    close(inner_loop.gradient(fast, parameters, batch), inner_loop.gradient(plain, parameters, batch), 1e-4)


def stated(workload: str, second_moments: str) -> list[str]:
    """Return what docs/performance.md states for a workload: kernels of an inner step and of an outer step."""
    text = (count_kernels.ROOT / "docs/performance.md").read_text(encoding="utf-8")
    return re.search(rf"^\| {workload} \| {second_moments} \| (\S+) \| (\S+) \|", text, re.MULTILINE).groups()


@pytest.mark.parametrize(
    ("name", "second_moments", "row"),
    [
        ("W1", "per_lane", ("W1", "per lane")),
        ("W1", "carried", ("W1", "carried")),
        ("W4 fomaml", "per_lane", ("W4 FOMAML", "-")),
        ("W4 maml", "per_lane", ("W4 MAML", "-")),
    ],
)
def test_an_outer_step_launches_the_kernels_that_the_page_on_performance_states(name, second_moments, row):
    """Its estimates of a GPU's time rest on them."""
    settings: TrainingSettings = count_kernels.workload(name, second_moments)
    smaller = dataclasses.replace(settings, train_shot=2, inner_batch_size=2)  # sizes change no count
    assert f"{count_kernels.outer_step(smaller).kernels:,}" == stated(*row)[1]


@pytest.mark.parametrize("name", ["W1", "W3"])
def test_an_inner_step_launches_the_kernels_that_the_page_on_performance_states(name):
    settings = dataclasses.replace(count_kernels.workload(name, "carried"), train_shot=1, inner_batch_size=2)
    assert str(count_kernels.inner_step(settings)[0]) == stated(name, "carried")[0]


@pytest.mark.parametrize(("name", "network"), [("W1", "Omniglot"), ("W3", "mini-ImageNet")])
def test_an_inner_step_moves_the_bytes_that_the_page_on_performance_states(name, network):
    """Of an image, with Adam's share: what bounds W3 on a GPU."""
    settings: TrainingSettings = count_kernels.workload(name, "carried")
    megabytes = count_kernels.inner_step(settings)[1] / settings.inner_batch_size / 1e6
    text = (count_kernels.ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert re.search(rf"moves about .*\b{megabytes:.2g} MB \({network}\)", text)
