"""Evaluation: what each mode depends on, and that tasks do not affect one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from firstorder.method import evaluation
from firstorder.method.evaluation import Checkpoint, evaluate, histogram, mean_accuracy
from firstorder.method.images import ImagePool, task_images
from firstorder.method.inner_loop import InnerLoop, OptimiserState, Plain
from firstorder.method.networks import make_network
from firstorder.method.tasks import Draws, TaskShape, draw_tasks
from firstorder.method.training import classification_loss

WAY = 3


@pytest.fixture
def network():
    return make_network("omniglot", WAY)


@pytest.fixture
def checkpoint(network):
    """Return an untrained network with second moments as after a training."""
    parameters = network.initial(seed=0)[None]
    moments = torch.rand(parameters.shape, generator=torch.Generator().manual_seed(1)) * 1e-2
    return Checkpoint(parameters, OptimiserState(moments, 400), {})


@pytest.fixture
def pool():
    """Return 12 classes of 8 images: each class a random pattern, each image with noise."""
    generator = np.random.default_rng(0)
    patterns = generator.random((12, 1, 1, 28, 28)) < 0.5
    noise = generator.random((12, 8, 1, 28, 28)) < 0.15
    return ImagePool.of((patterns ^ noise).astype(np.uint8), 1, torch.device("cpu"))


def shape(pool: ImagePool, support: int = 2) -> TaskShape:
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=WAY,
        support=support,
        query=1,
        inner_steps=4,
        inner_batch_size=5,
        sampling="cycle",
    )


def draws(pool: ImagePool, tasks: int = 7) -> Draws:
    return Draws(title="", shape=shape(pool), seed=0, purpose="evaluation", step=0, tasks=tasks)


def inner(network) -> InnerLoop:
    return InnerLoop(classification_loss(network), "adam", 1e-3, logits=network.logits)


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_an_inductive_prediction_does_not_change_when_another_query_does(network):
    parameters = network.initial(seed=0)[None]
    support, query = noise(1, 6, 1, 28, 28, seed=1), noise(1, WAY, 1, 28, 28, seed=2)
    changed = query.clone()
    changed[:, 1] = 1 - changed[:, 1]
    before = Plain().inductive_logits(inner(network), parameters, support, query)
    after = Plain().inductive_logits(inner(network), parameters, support, changed)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_an_inductive_prediction_is_normalised_with_the_support_set(network):
    """The logits are the last row for a batch of the support set and this query."""
    parameters = network.initial(seed=0)[None]
    support, query = noise(1, 6, 1, 28, 28, seed=1), noise(1, WAY, 1, 28, 28, seed=2)
    whole = network.logits(parameters, torch.cat([support, query[:, :1]], dim=1))
    assert torch.equal(Plain().inductive_logits(inner(network), parameters, support, query)[:, 0], whole[:, -1])


def test_a_transductive_prediction_depends_on_the_other_queries_and_not_on_the_support(network):
    parameters = network.initial(seed=0)[None]
    query = noise(1, WAY, 1, 28, 28, seed=2)
    changed = query.clone()
    changed[:, 1] = 1 - changed[:, 1]
    before = Plain().logits(inner(network), parameters, query)
    assert not torch.equal(before[:, 0], Plain().logits(inner(network), parameters, changed)[:, 0])
    assert torch.equal(before, network.logits(parameters, query))


def test_an_evaluation_does_not_change_the_checkpoint(network, checkpoint, pool):
    parameters, moments = checkpoint.parameters.clone(), checkpoint.state.second_moments.clone()
    evaluate(inner(network), checkpoint, pool, draws(pool))
    assert torch.equal(checkpoint.parameters, parameters)
    assert torch.equal(checkpoint.state.second_moments, moments)


def test_adaptation_starts_from_the_trained_second_moments(network, checkpoint, pool):
    """A fresh Adam would take different steps."""
    tasks = draw_tasks(shape(pool), 0, "evaluation", 0, range(2))
    task = task_images(pool, tasks)

    def adapted(state: OptimiserState) -> torch.Tensor:
        return evaluation.adapt(inner(network), checkpoint.parameters.expand(2, -1), state, task.batches)[0]

    trained = adapted(checkpoint.state.lanes(2))
    seen = []
    original = evaluation.adapt

    def spy(inner, parameters, state, batches):
        result = original(inner, parameters, state, batches)
        seen.append(result[0])
        return result

    evaluation.adapt = spy
    try:
        evaluation.correct_answers(inner(network), checkpoint, task)
    finally:
        evaluation.adapt = original
    assert torch.equal(seen[0], trained)
    fresh = adapted(OptimiserState.fresh(checkpoint.parameters.expand(2, -1)))
    assert (fresh - trained).abs().max() > 1e-4


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_counts_do_not_depend_on_the_number_of_lanes(network, checkpoint, pool, lanes, monkeypatch):
    expected = evaluate(inner(network), checkpoint, pool, draws(pool))
    monkeypatch.setitem(Plain.LANES, "cpu", lanes)
    found = evaluate(inner(network), checkpoint, pool, draws(pool))
    for mode, counts in expected.items():
        assert counts.tolist() == found[mode].tolist()


def test_an_answer_is_correct_if_its_label_has_the_highest_logit(checkpoint, pool):
    """A network that always answers 1 is correct for exactly one of the three queries of every task."""
    network = make_network("omniglot", WAY)
    constant = network.named(torch.zeros(network.parameters))
    constant["dense.bias"][1] = 1.0
    stubborn = Checkpoint(network.flat(constant)[None], OptimiserState.fresh(torch.zeros(1, network.parameters)), {})
    still = InnerLoop(classification_loss(network), "sgd", 1e-9, logits=network.logits)
    counts = evaluate(still, stubborn, pool, draws(pool))
    assert {mode: values.tolist() for mode, values in counts.items()} == {
        "inductive": [1] * 7,
        "transductive": [1] * 7,
    }


def test_mean_accuracy_and_standard_error_by_hand():
    """Accuracies 1, 0 and 1/2: mean 1/2, standard deviation 1/2 (divisor n - 1), error 1/2 / sqrt(3)."""
    assert mean_accuracy(np.array([2, 0, 1]), 2) == pytest.approx((0.5, 0.5 / 3**0.5))
    assert np.isnan(mean_accuracy(np.array([2]), 2)[1])


def test_the_histogram_counts_tasks_by_correct_answers():
    assert histogram(np.array([3, 0, 3, 1]), 3) == (1, 1, 0, 2)
    assert histogram(np.array([0, 0]), 2) == (2, 0, 0)


def test_images_are_scaled_to_between_zero_and_one():
    pool = ImagePool.of(np.array([0, 51, 255], np.uint8).reshape(1, 3, 1, 1, 1), 255, torch.device("cpu"))
    assert pool.take(np.array([[0, 1, 2]])).flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])
