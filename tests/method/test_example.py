"""Check that examples/reptile.py, Reptile in a hundred lines of plain PyTorch, gives the results of the package."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from firstorder import settings
from firstorder.method import training
from firstorder.method.evaluation import correct_answers, evaluation_shape
from firstorder.method.images import ImagePool, task_images
from firstorder.method.tasks import draw_tasks
from tests.conftest import tiny_pack

PATH = Path(__file__).parents[2] / "examples/reptile.py"
SPECIFICATION = importlib.util.spec_from_file_location("reptile_example", PATH)
reptile = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(reptile)

WAY = 3
MiniBatches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reference:
    """The package's draws and results in the example's format: tensors in the order of its parameters."""

    outer_steps: int
    meta_batches: list[list[MiniBatches]]
    evaluated: list[tuple[MiniBatches, Tensor]]
    initial: list[Tensor]
    parameters: list[Tensor]
    second_moments: list[Tensor]
    inner_steps: int
    correct: list[int]  # correct answers of each evaluated task


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Train and evaluate with the package, in double precision. Only this fixture uses the package's internals."""
    generator = np.random.default_rng(0)
    patterns = generator.random((20, 1, 1, 28, 28)) < 0.5
    noise = generator.random((20, 10, 1, 28, 28)) < 0.25  # enough for some answers to be wrong
    chosen = settings.TrainingSettings(
        algorithm="reptile",
        dataset="omniglot",
        network="omniglot",
        way=WAY,
        train_shot=4,
        sampling="cycle",
        inner_optimiser="adam",
        inner_learning_rate=1e-3,
        inner_steps=4,
        inner_batch_size=5,
        second_moments="carried",
        outer_steps=4,
        outer_step_size=1.0,
        outer_step_size_final=0.0,
        meta_batch_size=2,
        curve=settings.CurveSettings(every=1, tasks=1, shot=1, inner_steps=5, inner_batch_size=2),
    )
    pool = ImagePool.of((patterns ^ noise).astype(np.uint8), 1, torch.device("cpu"))
    problem = training.Problem("example", chosen, 0, {"meta-train": pool}, dtype=torch.float64)

    def unflattened(flat: Tensor) -> list[Tensor]:
        parts = problem.network.named(flat[0]).values()
        return [part.permute(0, 3, 1, 2) if part.dim() == 4 else part for part in parts]

    def lane(batches: MiniBatches, index: int) -> MiniBatches:
        return [(images[index], labels[index]) for images, labels in batches]

    state = training.start(problem)
    initial, meta_batches = unflattened(state.parameters), []
    for step in range(chosen.outer_steps):
        meta_batches.append([lane(group.batches, 0) for group in training.draw_groups(problem, step)])
        training.outer_step(problem, problem.inner, state)

    tasks = draw_tasks(evaluation_shape(pool, WAY, chosen.curve), 0, "example", 0, range(30))
    task = task_images(pool, tasks, torch.float64)
    checkpoint = training.checkpoint_of(problem, state, {})
    correct = correct_answers(problem.inner, checkpoint, task)["transductive"]
    return Reference(
        outer_steps=chosen.outer_steps,
        meta_batches=meta_batches,
        evaluated=[(lane(task.batches, index), images) for index, images in enumerate(task.query)],
        initial=initial,
        parameters=unflattened(state.parameters),
        second_moments=unflattened(state.optimiser.second_moments),
        inner_steps=state.optimiser.steps,
        correct=correct.tolist(),
    )


@pytest.fixture(scope="module")
def trained(reference: Reference) -> tuple[torch.nn.Module, object]:
    """Train with the example, from the package's initial parameters and on the package's draws."""
    network = reptile.make_network(WAY).double()
    with torch.no_grad():
        for parameter, initial in zip(network.parameters(), reference.initial, strict=True):
            parameter.copy_(initial)
    adam = reptile.Adam(network)
    reptile.train(network, adam, reference.meta_batches, reference.outer_steps)
    return network, adam


def assert_same_change(ours: list[Tensor], theirs: list[Tensor], start: list[Tensor]) -> None:
    """Assert agreement to 1e-9 of each tensor's change, and of its largest entry's change in every entry."""
    for one, other, before in zip(ours, theirs, start, strict=True):
        change = other - before
        assert (one - other).norm() <= 1e-9 * change.norm()
        assert (one - other).abs().max() <= 1e-9 * change.abs().max()
        assert change.norm() > 0


def test_training_ends_at_the_parameters_of_the_package(reference, trained):
    assert_same_change([*trained[0].parameters()], reference.parameters, reference.initial)


def test_training_ends_at_the_second_moments_of_the_package(reference, trained):
    zeros = [torch.zeros_like(moment) for moment in reference.second_moments]
    assert_same_change(trained[1].second_moments, reference.second_moments, zeros)
    assert trained[1].steps == reference.inner_steps == 4 * 2 * 4


def test_evaluation_answers_as_the_package_does(reference, trained):
    """Some tasks have wrong answers and some have none, and no task changes the trained moments."""
    assert len(set(reference.correct)) > 2
    moments = [moment.clone() for moment in trained[1].second_moments]
    assert [round(WAY * reptile.evaluate(*trained, [task])) for task in reference.evaluated] == reference.correct
    assert reptile.evaluate(*trained, reference.evaluated) == pytest.approx(np.mean(reference.correct) / WAY)
    assert all(map(torch.equal, moments, trained[1].second_moments))


def test_initial_parameters_are_drawn_from_the_same_ranges_as_those_of_the_package(reference):
    drawn = [parameter.abs().max().item() for parameter in reptile.make_network(WAY).parameters()]
    assert drawn == pytest.approx([initial.abs().max().item() for initial in reference.initial], rel=0.02)


def test_a_sampled_task_uses_each_image_once_per_round_and_has_one_query_image_per_class():
    """Two images of each of three classes, four per mini-batch: three mini-batches are two rounds of six."""
    characters = torch.arange(7 * 5.0).view(7, 5, 1, 1, 1)  # image d of character c holds 5 c + d
    torch.manual_seed(0)
    batches, query = reptile.sample_task(characters, shot=2, steps=3, batch=4, way=3)
    assert [len(labels) for _, labels in batches] == [4, 4, 4]
    values = torch.cat([images.flatten() for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(values[:6].tolist()) == sorted(values[6:].tolist())
    assert values[:6].tolist() != values[6:].tolist()  # reshuffled
    assert len(values[:6].unique()) == 6
    classes = query.flatten() // 5
    assert len(classes.unique()) == 3
    assert torch.equal(classes[labels], values // 5)
    assert not set(query.flatten().tolist()) & set(values.tolist())


def test_the_example_runs_from_the_data_to_the_accuracy_on_new_characters(monkeypatch, capsys):
    monkeypatch.setattr(reptile, "make_pack", tiny_pack)
    reptile.main(outer_steps=2, test_tasks=2)
    before, after = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Accuracy on 6 new characters before training: \d+\.\d %", before)
    assert re.fullmatch(r"After 2 outer steps on 18 others: \d+\.\d %", after)


def test_the_example_has_at_most_a_hundred_lines():
    assert len(PATH.read_text(encoding="utf-8").splitlines()) <= 100


def test_the_example_imports_only_the_glyphs_from_the_package():
    imported = set()
    for node in ast.walk(ast.parse(PATH.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
    assert {name for name in imported if "firstorder" in name} == {"firstorder.data.glyphs.make_pack"}


def test_readme_and_example_name_one_command_which_works_on_one_core() -> None:
    """With several threads it may hang on a machine whose cores are busy."""
    command = ".venv/bin/python examples/reptile.py"
    assert f"`{command}`" in reptile.__doc__
    assert f"`{command}`" in (PATH.parents[1] / "README.md").read_text(encoding="utf-8")
    last = ast.parse(PATH.read_text(encoding="utf-8")).body[-1]
    assert [ast.unparse(line) for line in last.body] == ["torch.set_num_threads(1)", "main()"]
