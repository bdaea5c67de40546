"""What the page computes in a browser is what the package computes: weights, gradient, logits in both modes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firstorder.method import inner_loop
from firstorder.method.evaluation import Checkpoint
from firstorder.method.inner_loop import OptimiserState
from firstorder.upkeep import demo
from tests.browser import Browser, found
from tests.demo import assembled
from tests.demo.assembled import Task

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium: apt-get install chromium")

# The page computes in 64 bits, and so does the package here. In 32 bits, as it computes tables, its rounding counts. It
# moved logits by up to 2.6e-5 of the largest, by up to 3.2e-4 where it took a value across ReLU's kink.
TOLERANCE = 1e-9
ROUNDING = 1e-3  # of the largest logit
STEPS = [0, 1, 5, 50]
ADAPT = """(async () => {
  const checkpoint = await Session.unpack(CHECKPOINT);
  const { Task } = adaptationModule(networkModule());
  const task = new Task(checkpoint, %(support)s.map(Drawing.imageFrom), %(labels)s);
  task.ask(%(queries)s.map(Drawing.imageFrom));
  return %(steps)s.map((at) => {
    while (task.reached.length <= at) task.step();
    return task.classify(at).logits;
  });
})()"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled.project_with_checkpoint(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, path: Path):
    folder = tmp_path_factory.mktemp("browser")
    demo.assemble(assembled.wanted(path.parents[3], folder / "site/demo"))
    with Browser(folder) as started:
        started.open(folder / "site/demo/index.html")
        yield started


def texts(images: assembled.Images) -> str:
    return json.dumps(["".join(map(str, image.ravel())) for image in images])


def drawn_task(browser: Browser) -> Task:
    """Return the task that the page's button fills in: example drawings, turned into images by the page."""
    program = "EXAMPLES.slice(0, 5).map((e) => e.drawings.map((d) => Array.from(Drawing.imageOf(d))))"
    images = np.array(browser.run(program), np.uint8).reshape(5, 2, 28, 28)
    return Task("example drawings", images[:, 0], [0, 1, 2, 3, 4], images[:, 1])


def check(browser: Browser, path: Path, task: Task) -> None:
    """Compare the page's logits with the package's, in both modes and precisions, after some inner steps."""
    values = {"support": texts(task.support), "labels": task.labels, "queries": texts(task.queries), "steps": STEPS}
    page = browser.run(ADAPT % values)
    for dtype, most in ((torch.float64, TOLERANCE), (torch.float32, ROUNDING)):
        checkpoint = assembled.read(path, dtype)
        for logits, steps in zip(page, STEPS, strict=True):
            for mode, wanted in assembled.expected(checkpoint, task, steps).items():
                assert np.shape(logits[mode]) == wanted.shape == (len(task.queries), 5)
                scale = 1.0 if dtype == torch.float64 else np.abs(wanted).max()
                distance = np.abs(np.array(logits[mode]) - wanted).max() / scale
                assert distance < most, (dtype, mode, steps)


def test_the_page_holds_every_bit_of_the_checkpoint(browser: Browser, path: Path) -> None:
    checkpoint = assembled.read(path, torch.float64)
    unpack = "Session.unpack(CHECKPOINT).then((c) => [c.steps, Array.from(c.parameters), Array.from(c.moments)])"
    steps, parameters, moments = browser.run(unpack)
    assert steps == checkpoint.state.steps == 2_500_000
    assert parameters == checkpoint.parameters[0].tolist()
    assert moments == checkpoint.state.second_moments[0].tolist()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_gradient_of_every_parameter_is_autograds(browser: Browser, path: Path, number: int) -> None:
    """In float64 on both sides; the largest entry of the gradient is about 1."""
    task = assembled.glyph_tasks()[number]
    program = """Session.unpack(CHECKPOINT).then((c) => { const network = networkModule();
        const images = %s.map(Drawing.imageFrom);
        const found = network.gradient(network.layout(5), c.parameters, images, %s);
        return [found.loss, Array.from(found.gradient)]; })"""
    loss, gradient = browser.run(program % (texts(task.support), task.labels))
    checkpoint, inner = assembled.read(path, torch.float64), assembled.inner_loop()
    batch = assembled.tensors(task.support, torch.float64), torch.tensor([task.labels])
    wanted = inner_loop.gradient(inner, checkpoint.parameters, batch)[0].numpy()
    assert loss == pytest.approx(inner.loss(checkpoint.parameters, batch).item(), abs=1e-12)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_logits_of_glyphs_are_the_packages(browser: Browser, path: Path, number: int) -> None:
    """Also with fewer than five classes, whose outputs stay in the loss."""
    check(browser, path, assembled.glyph_tasks()[number])


def test_logits_of_drawings_are_the_packages(browser: Browser, path: Path) -> None:
    check(browser, path, drawn_task(browser))


@pytest.mark.skipif(not assembled.OMNIGLOT.exists(), reason="no data/omniglot.npz: firstorder pack omniglot")
@pytest.mark.parametrize("number", [0, 1])
def test_logits_of_omniglot_are_the_packages(browser: Browser, path: Path, number: int) -> None:
    check(browser, path, assembled.omniglot_tasks()[number])


def test_random_weights_are_drawn_and_adapted_as_the_package_does(browser: Browser) -> None:
    """The numbers differ from the package's, the ranges do not; Adam starts afresh."""
    task = assembled.glyph_tasks()[0]
    program = """Session.unpack(CHECKPOINT).then((c) => {
        const { Task, untrained } = adaptationModule(networkModule());
        const task = new Task(untrained(c), %s.map(Drawing.imageFrom), %s);
        task.ask(%s.map(Drawing.imageFrom));
        for (let step = 0; step < 5; step++) task.step();
        return [Array.from(task.reached[0]), task.classify(5).logits]; })"""
    drawn, page = browser.run(program % (texts(task.support), task.labels, texts(task.queries)))
    parameters = torch.tensor([drawn], dtype=torch.float64)
    ours = assembled.NETWORK.named(assembled.NETWORK.initial(0))
    for name, values in assembled.NETWORK.named(parameters[0]).items():
        assert values.min().item() == pytest.approx(ours[name].min().item(), abs=0.01), name
        assert values.mean().item() == pytest.approx(ours[name].mean().item(), abs=0.01), name
        assert values.max().item() == pytest.approx(ours[name].max().item(), abs=0.01), name
    checkpoint = Checkpoint(parameters, OptimiserState.fresh(parameters), {})
    for mode, wanted in assembled.expected(checkpoint, task, 5).items():
        np.testing.assert_allclose(page[mode], wanted, rtol=0, atol=TOLERANCE)
