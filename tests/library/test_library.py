"""The package as a library: the pipeline's numbers from arrays, and clear errors for everything else."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import firstorder
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.library import learner as module
from firstorder.library.arrays import classes_of
from firstorder.method import evaluation
from firstorder.method.images import ImagePool, TaskImages
from firstorder.method.inner_loop import Plain, adapt
from firstorder.method.training import start
from firstorder.settings import checks
from tests.conftest import EVALUATION, TRAINING, tiny_pack

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "models/reptile/omniglot-5way/seed-0.safetensors"
PACK = tiny_pack(classes=12)
IMAGES = PACK.images.astype(bool)


@pytest.fixture(scope="module")
def learner() -> firstorder.Learner:
    """Return the published checkpoint, on the plain engine."""
    return firstorder.load(PUBLISHED, engine="plain")


def support(classes: int = 5, shot: int = 1) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return IMAGES[:classes, :shot].reshape(-1, 1, 28, 28), np.arange(classes).repeat(shot)


def queries(classes: int = 5) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return IMAGES[:classes, 5:8].reshape(-1, 1, 28, 28), np.arange(classes).repeat(3)


def test_the_published_checkpoint_tells_new_classes_apart(learner: firstorder.Learner) -> None:
    assert repr(learner) == "Learner(reptile, 5-way, images 1x28x28)"
    adapted = learner.adapt(*support())
    images, labels = queries()
    for mode in ("inductive", "transductive"):
        assert (adapted.predict(images, mode=mode) == labels).mean() > 0.9
        assert adapted.logits(images, mode=mode).shape == (15, 5)
    assert adapted.inner_steps == 50


def test_adapting_and_classifying_give_the_numbers_of_an_evaluation(learner: firstorder.Learner) -> None:
    images, labels = support(shot=2)
    adapted = learner.adapt(images, labels, inner_steps=7, inner_batch_size=4, seed=3)
    order = module._order(10, 7, 4, 3)
    pixels, targets = torch.from_numpy(images).float(), torch.from_numpy(labels)
    batches = [(pixels[some][None], targets[some][None]) for some in torch.from_numpy(order)]
    inner, checkpoint = learner.problem.inner, learner.checkpoint
    wanted, _ = adapt(inner, checkpoint.parameters, checkpoint.state, batches)
    torch.testing.assert_close(adapted.parameters, wanted, rtol=1e-5, atol=1e-6)
    asked = torch.from_numpy(queries()[0]).float()[None]
    task = TaskImages(batches, pixels[None], asked, torch.from_numpy(queries()[1])[None])
    for mode, logits in evaluation.logits(inner, wanted, task).items():
        np.testing.assert_allclose(adapted.logits(queries()[0], mode=mode), logits[0], rtol=1e-3, atol=1e-4)


def test_steps_end_where_adapting_ends_and_change_nothing(learner: firstorder.Learner) -> None:
    before = learner.checkpoint.parameters.clone()
    path = list(learner.steps(*support(), inner_steps=3))
    assert [each.inner_steps for each in path] == [0, 1, 2, 3]
    assert torch.equal(path[0].parameters, learner.checkpoint.parameters)
    assert torch.equal(path[-1].parameters, learner.adapt(*support(), inner_steps=3).parameters)
    assert torch.equal(before, learner.checkpoint.parameters)


def test_an_inductive_answer_does_not_depend_on_the_other_queries_a_transductive_one_does(
    learner: firstorder.Learner,
) -> None:
    adapted, images = learner.adapt(*support(), inner_steps=5), queries()[0]
    alone, among = (adapted.logits(some, mode="inductive") for some in (images[:1], images))
    np.testing.assert_allclose(alone[0], among[0], rtol=1e-4, atol=1e-5)
    alone, among = (adapted.logits(some, mode="transductive") for some in (images[:1], images))
    assert np.abs(alone[0] - among[0]).max() > 1e-2


@pytest.mark.parametrize("form", ["tensor", "float64", "bytes", "no channels"])
def test_every_form_of_the_same_images_gives_the_same_logits(form: str, learner: firstorder.Learner) -> None:
    adapted, images = learner.adapt(*support(), inner_steps=2), queries()[0]
    other: Any = {
        "tensor": torch.from_numpy(images),
        "float64": images.astype(np.float64),
        "bytes": images.astype(np.uint8) * 255,
        "no channels": images[:, 0],
    }[form]
    np.testing.assert_array_equal(adapted.logits(other), adapted.logits(images))


FLOATS = np.zeros((5, 1, 28, 28), np.float32)
WRONG: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "list": ([[0.0]], range(5), TypeError, "support images: expected a NumPy array or a torch tensor, found list"),
    "size": (FLOATS[..., :20], range(5), ValueError, r"expected shape \[images, 1, 28, 28\] .* found \[5, 1, 28, 20\]"),
    "channels": (FLOATS.repeat(3, 1), range(5), ValueError, r"found \[5, 3, 28, 28\]"),
    "none": (FLOATS[:0], range(5), ValueError, "with at least one image"),
    "whole numbers": (FLOATS.astype(int), range(5), TypeError, "expected floating point in .0, 1., bool, or uint8"),
    "range": (FLOATS + 200, range(5), ValueError, "found 200 to 200; divide bytes by 255"),
    "below": (FLOATS - 0.5, range(5), ValueError, "found -0.5 to -0.5"),
    "not finite": (FLOATS * np.nan, range(5), ValueError, "not finite"),
    "uint8 to 1": (FLOATS.astype(np.uint8) + 1, range(5), ValueError, "uint8 goes from 0 to 255, these end at 1"),
    "few labels": (FLOATS, range(4), ValueError, r"expected one label an image, 5, found shape \[4\]"),
    "fractions": (FLOATS, np.zeros(5), TypeError, "expected whole numbers from 0 to 4, found float64"),
    "too large": (FLOATS, [0, 1, 2, 3, 5], ValueError, "expected 0 to 4, found 0 to 5"),
    "negative": (FLOATS, [0, 1, 2, 3, -1], ValueError, "found -1 to 3"),
    "absent": (FLOATS, [0, 1, 2, 3, 3], ValueError, "no image has label 4; each of the 5 classes needs at least one"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_support_images_and_labels_are_named(wrong: str, learner: firstorder.Learner) -> None:
    images, labels, kind, message = WRONG[wrong]
    with pytest.raises(kind, match=message):
        learner.adapt(images, labels)


def test_wrong_queries_modes_and_lengths_are_named(learner: firstorder.Learner) -> None:
    adapted = learner.adapt(*support(), inner_steps=0)
    with pytest.raises(ValueError, match="query images: expected shape"):
        adapted.predict(np.zeros((1, 1, 28, 27)))
    with pytest.raises(ValueError, match="mode: expected 'transductive' or 'inductive', found 'both'"):
        adapted.predict(FLOATS, mode="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found -1 of"):
        learner.adapt(*support(), inner_steps=-1)


# --- Checkpoints ---


def test_a_checkpoint_that_is_published_is_found_without_dvc_and_git(tmp_path: Path) -> None:
    """As after the download of a ZIP: the object is in published/, under its MD5."""
    wanted = firstorder.load(PUBLISHED).checkpoint.parameters
    for part in (".dvc/config", "published/files/md5/65/abf10b68d601dcb62f6bf12e013159"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    path = tmp_path / "models/reptile/omniglot-5way/seed-0.safetensors"
    path.parent.mkdir(parents=True)
    shutil.copy(PUBLISHED.with_name(f"{PUBLISHED.name}.dvc"), path.parent)
    assert torch.equal(firstorder.load(path).checkpoint.parameters, wanted)
    with (tmp_path / "published/files/md5/65/abf10b68d601dcb62f6bf12e013159").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="damaged, its MD5 is not its name; get it again"):
        firstorder.load(path)
    shutil.rmtree(tmp_path / "published/files")
    with pytest.raises(
        UserError, match=r"not here yet; get it with: dvc pull .* no \.git: dvc config --local core\.no_scm"
    ):
        firstorder.load(path)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; check the path"):
        firstorder.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="not a checkpoint of this package"):
        firstorder.load(tmp_path / "text.safetensors")


def test_a_checkpoint_of_the_pipeline_is_evaluated_as_by_the_pipeline(computed_project: Path) -> None:
    """The same classes and tasks, drawn by the same generator, have the same answers."""
    from firstorder.data import packs
    from firstorder.records.cells import read_record

    project = checks.load(computed_project / "params.yaml")
    made = project.evaluations[EVALUATION]
    loaded = firstorder.load(computed_project / f"models/{TRAINING}/seed-0.safetensors")
    pack, _ = packs.read_pack(computed_project / "data/omniglot.npz")
    test = packs.make_pools(pack, project.datasets["omniglot"], 0).meta_test.astype(bool)
    found = loaded.evaluate(
        test, shot=1, tasks=made.tasks, inner_steps=made.inner_steps, inner_batch_size=made.inner_batch_size, seed=0
    )
    for mode in ("inductive", "transductive"):
        path = computed_project / f"results/cells/{EVALUATION}/{mode}/seed-0.json"
        histogram = np.array(read_record(path).correct_histogram)
        assert found[mode].accuracy == pytest.approx(histogram @ np.arange(6) / 5 / made.tasks)
        assert found[mode].tasks == made.tasks


# --- Training on arrays ---

SMALL: dict[str, Any] = {"way": 3, "outer_steps": 2, "filters": 16, "meta_batch_size": 2, "engine": "plain"}


def test_training_on_arrays_is_the_methods_training() -> None:
    made = firstorder.train(IMAGES, **SMALL, seed=4)
    problem = made.problem
    problem.pools["meta-train"] = ImagePool.of(PACK.images, 1, torch.device("cpu"))
    assert isinstance(problem.engine, Plain)
    from firstorder.method.training import outer_step

    state = start(problem)
    for _ in range(2):
        outer_step(problem, problem.inner, state)
    assert torch.equal(state.parameters, made.checkpoint.parameters)
    assert {row["pool"] for row in made.curve} == {"meta-train"}
    assert all(0 <= row["accuracy"] <= 1 for row in made.curve)


@pytest.mark.skipif(native.reason("omniglot") is not None, reason="engine native is not available")
@pytest.mark.parametrize(("engine", "calls"), [("native", 4), ("plain", 2)])
def test_training_and_evaluating_give_engine_native_the_cores(
    engine: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each of the two; around engine plain only after, which changes nothing."""
    numbers: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    made = firstorder.train(IMAGES, **{**SMALL, "engine": engine})
    made.evaluate(IMAGES, tasks=2)
    assert numbers == [1] * calls


def test_a_trained_network_is_saved_and_loaded(tmp_path: Path) -> None:
    made = firstorder.train([one[: 6 + number] for number, one in enumerate(IMAGES)], **SMALL)
    made.save(tmp_path / "made.safetensors")
    loaded = firstorder.load(tmp_path / "made.safetensors", engine="plain")
    assert (loaded.way, loaded.image_shape) == (3, (1, 28, 28))
    given = support(3)
    np.testing.assert_array_equal(made.adapt(*given).logits(queries(3)[0]), loaded.adapt(*given).logits(queries(3)[0]))


def test_momentum_goes_with_a_network_from_training_to_adapting(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"way": 5, "outer_steps": 2, "inner_steps": 2, "filters": 16}
    trained = firstorder.train(IMAGES, inner_beta1=0.9, **sizes)
    assert trained.problem.engine.name == "plain"
    trained.save(tmp_path / "made.safetensors")
    loaded = firstorder.load(tmp_path / "made.safetensors")
    assert loaded.problem.engine.name == "plain"
    assert loaded.checkpoint.state.first_moments is not None
    assert trained.checkpoint.state.first_moments is not None
    assert torch.equal(loaded.checkpoint.state.first_moments, trained.checkpoint.state.first_moments)
    adapted = loaded.adapt(*support(), inner_steps=3)
    assert torch.equal(adapted.parameters, trained.adapt(*support(), inner_steps=3).parameters)
    without = firstorder.train(IMAGES, engine="plain", **sizes)
    assert not torch.equal(without.checkpoint.parameters, trained.checkpoint.parameters)
    with pytest.raises(UserError, match="--engine lanes: it computes Adam with beta1 = 0 only"):
        firstorder.load(tmp_path / "made.safetensors", engine="lanes")
    with pytest.raises(UserError, match="inner_beta1: expected less than 1"):
        firstorder.train(IMAGES, inner_beta1=1.0, **sizes)


def test_held_out_classes_give_a_second_curve_and_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from firstorder import progress

    made = firstorder.train(IMAGES[:8], held_out=IMAGES[8:], track=progress.shown, **SMALL)
    assert {row["pool"] for row in made.curve} == {"meta-train", "meta-test"}
    assert "2/2 outer steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "settings", "kind", "message"),
    [
        (IMAGES[:1], {}, ValueError, "expected at least 2 classes, found 1"),
        (IMAGES[:, :1], {}, ValueError, r"classes\[0\]: expected shape .* with at least 2 images"),
        (IMAGES[..., :20], {}, ValueError, r"expected shape \[images, channels, size, size\]"),
        ([*IMAGES[:3], IMAGES[0].astype(np.uint8)], {}, TypeError, r"classes\[3\]: is uint8, the first class bool"),
        (IMAGES * 0.3, {}, ValueError, "these are not bytes divided by 255; round them"),
        (IMAGES, {"inner_step": 3}, UserError, "unknown key 'inner_step' .did you mean 'inner_steps'"),
        (IMAGES, {"inner_steps": 0}, UserError, "inner_steps: expected at least 1, found 0"),
        (IMAGES, {"algorithm": "maml"}, UserError, "maml needs query_shot"),
        (IMAGES, {"image": {}}, UserError, "firstorder.train: image follows from the arrays; leave it out"),
        (IMAGES[:, :, :, :12, :12], {}, UserError, "size: expected at least 16"),
        (IMAGES, {"way": 13}, UserError, "cannot draw 13 classes"),
    ],
)
def test_wrong_classes_and_settings_are_named(
    classes: Any, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        firstorder.train(classes, **{**SMALL, **settings})


def test_bytes_divided_by_255_are_stored_as_they_were() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 1, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(classes_of(noise / np.float32(255), "classes").images, noise)
    assert classes_of(noise, "classes").scale == 255


# --- Importing ---


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_importing_the_package_imports_no_torch() -> None:
    done = run("import firstorder, sys; print(firstorder.__version__, 'torch' in sys.modules, 'numpy' in sys.modules)")
    assert done.stdout == f"{firstorder.__version__} False False\n"


def test_what_is_not_installed_is_named() -> None:
    done = run("import sys; sys.modules['safetensors'] = None; import firstorder; firstorder.load")
    assert done.stderr.endswith("ImportError: firstorder.load needs safetensors; install it: pip install safetensors\n")
    with pytest.raises(AttributeError, match="module 'firstorder' has no attribute 'nothing'"):
        firstorder.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_stub_declares_what_the_module_gives() -> None:
    text = (ROOT / "src/firstorder/__init__.pyi").read_text(encoding="utf-8")
    for name in firstorder._LIBRARY:  # type: ignore[attr-defined]
        assert f"import {name} as {name}\n" in text
        assert getattr(firstorder, name).__doc__


# --- The example ---


def test_the_example_adapts_the_published_checkpoint_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    import matplotlib

    matplotlib.use("agg")
    found = runpy.run_path(str(ROOT / "examples/five_characters.py"))
    for accuracies in found["accuracies"].values():
        assert len(accuracies) == 51
        assert accuracies[-1] >= 0.8 > accuracies[0]
    assert (tmp_path / "five_characters.png").stat().st_size > 10_000
    assert "after 50" in capsys.readouterr().out
