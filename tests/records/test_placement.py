"""A result in the place of another seed's or training's is stale, refused by the report, and a mismatch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from firstorder import settings
from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.records import cells, checkpoints, freshness, placement
from firstorder.report.read import accuracies, curves
from firstorder.report.read.measurements import of_seeds
from firstorder.settings import Project, checks, columns
from firstorder.upkeep.verify import verify
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, write_params

SECTIONS = (
    (("adaptations",), {EVALUATION: {"inner_steps": [0, 1], "tasks": 5}}),
    (("alphabets",), {EVALUATION: {"tasks": 5}}),
)
KINDS = {
    "curve": settings.CURVE.format(training=TRAINING, seed=0),
    "adaptation": settings.ADAPTATION.format(evaluation=EVALUATION, seed=0),
    "alphabets": settings.ALPHABETS.format(evaluation=EVALUATION, seed=0),
    "record": settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0),
}

READERS: dict[str, Callable[[Project], object]] = {
    "curve": lambda project: curves.final_accuracies(Path(), project, TRAINING),
    "adaptation": lambda project: of_seeds(Path(), project, freshness.adaptation, EVALUATION, columns.ADAPTATION),
    "alphabets": lambda project: of_seeds(Path(), project, freshness.alphabets, EVALUATION, columns.ALPHABETS),
    "record": lambda project: accuracies.fresh_records(Path(), project),
}


def move(path: str, to: str) -> None:
    for suffix in (Path(path).suffix, ".run.json"):
        shutil.copy(Path(path).with_suffix(suffix), Path(to).with_suffix(suffix))


def reseal(path: str, change: Callable[[dict[str, object]], object]) -> None:
    """Change the run file of a result and seal it anew."""
    run = cells.read_run(Path(path))
    change(run)
    cells.write_run(Path(path), cells.sealed(run, Path(path).read_bytes()))


@pytest.fixture
def probed(computed_project: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a project with two seeds trained, evaluated and probed; it is the working folder."""
    write_params(computed_project, edit(TINY_PARAMS, *SECTIONS))
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        assert main([verb, name, "--seed", "1", "--device", "cpu"]) == 0
    for seed in ("0", "1"):
        assert main(["adaptation", EVALUATION, "--seed", seed, "--device", "cpu"]) == 0
        assert main(["alphabets", EVALUATION, "--seed", seed, "--device", "cpu"]) == 0
    assert main(["stale"]) == 0
    assert main(["verify"]) == 0
    capsys.readouterr()
    return computed_project


def stale() -> list[str]:
    return [item.path for item, _ in freshness.stale(Path(), checks.load("params.yaml"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("swap", [False, True], ids=["copied", "swapped"])
def test_a_result_of_another_seed_is_stale_and_a_mismatch(kind: str, swap: bool, probed: Path) -> None:
    mine, other = KINDS[kind], KINDS[kind].replace("seed-0", "seed-1")
    kept = KINDS[kind].replace("seed-0", "kept")
    move(other, kept)
    move(mine, other)
    if swap:
        move(kept, mine)
    for suffix in (Path(kept).suffix, ".run.json"):
        Path(kept).with_suffix(suffix).unlink()
    wrong = {mine, other} if swap else {other}
    assert set(stale()) == wrong
    found = [mismatch.path.as_posix() for mismatch in verify({Path(): None}).mismatches]
    named = {path.replace(".run.json", Path(mine).suffix) for path in found}
    assert wrong <= named
    with pytest.raises(UserError, match=r"it is the (result|record) of"):
        READERS[kind](checks.load("params.yaml"))


@pytest.mark.parametrize("kind", ["adaptation", "alphabets"])
def test_the_oldest_probes_are_known_by_their_checkpoint(kind: str, probed: Path) -> None:
    """Their run files name neither evaluation nor seed, but a checkpoint, as the records of the same seed do."""
    mine, other = KINDS[kind], KINDS[kind].replace("seed-0", "seed-1")
    for path in (mine, other):
        reseal(path, lambda run: [run.pop(key) for key in ("evaluation", "training", "seed")])
    assert not stale()
    move(mine, other)
    assert stale() == [other]
    (mismatch,) = verify({Path(): None}).mismatches
    assert "it is the result of another checkpoint: " in mismatch.text
    for path in Path("results/cells").rglob("seed-1.*"):
        path.unlink()
    assert stale() == [other]  # the records of seed 0 name it


def test_the_oldest_inner_products_are_known_by_their_content(tmp_path: Path) -> None:
    """Their run files name neither seed nor checkpoint; the same measurements cannot be those of two seeds."""
    paths = [settings.INNER_PRODUCTS.format(training=TRAINING, seed=seed) for seed in (0, 1)]
    for path in paths:
        cells.write_sealed(tmp_path / path, f"a,b\n1,{path[-5]}.5\n", {"engine": "native"})
        assert placement.misplaced(tmp_path, path, cells.read_run(tmp_path / path)) is None
    for suffix in (".csv", ".run.json"):
        shutil.copy((tmp_path / paths[0]).with_suffix(suffix), (tmp_path / paths[1]).with_suffix(suffix))
    found = placement.misplaced(tmp_path, paths[1], cells.read_run(tmp_path / paths[1]))
    assert found == "it is the result of another seed: it has the same content as seed-0.csv"


@pytest.mark.parametrize("key", ["training", "seed"])
def test_a_curve_of_another_training_states_no_checkpoint(key: str, computed_project: Path) -> None:
    reseal(KINDS["curve"], lambda run: run.update({key: {"training": "maml/omniglot-5way", "seed": 7}[key]}))
    assert stale() == [KINDS["curve"]]
    with pytest.raises(UserError, match=f"it is the result of another {key}: "):
        checkpoints.stated(Path(), checks.load("params.yaml"), TRAINING, 0)


def test_a_run_file_that_was_edited_is_refused_by_the_report(computed_project: Path) -> None:
    """The seed of a copy is in it, and the digest of its settings."""
    path = Path(KINDS["curve"]).with_suffix(".run.json")
    run = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(cells.run_text({**run, "settings_digest": "0" * 16}), encoding="utf-8")
    with pytest.raises(UserError, match=r"run\.json: changed after it was written: its run_digest is another"):
        stale()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (KINDS["curve"], {"training": TRAINING, "seed": 0}),
        (KINDS["alphabets"], {"evaluation": EVALUATION, "seed": 0}),
        (KINDS["record"], {"evaluation": EVALUATION, "mode": "inductive", "seed": 0}),
        ("results/curves/theory/joint/omniglot-5way/seed-12.csv", {"training": "joint/omniglot-5way", "seed": 12}),
        (settings.SINE_FITS, {}),
        (settings.EXPANSION, {}),
    ],
)
def test_a_path_names_its_result(path: str, named: dict[str, object]) -> None:
    assert placement.named_by(path) == named
