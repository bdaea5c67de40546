"""What was sealed anew after an edit is still a mismatch if it is impossible, and so is a result without its seal."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.records import cells, freshness, measured
from firstorder.settings import checks, columns
from firstorder.upkeep.verify import verify
from tests.conftest import EVALUATION, TRAINING

CURVE = Path(settings.CURVE.format(training=TRAINING, seed=0))
RECORD = Path(settings.RECORD.format(evaluation=EVALUATION, mode="transductive", seed=0))
REPOSITORY = Path(__file__).parents[2]
Lines = list[str]


def with_value(lines: Lines, column: str, value: str) -> Lines:
    place = lines[0].split(",").index(column)
    row = lines[3].split(",")
    row[place] = value
    return [*lines[:3], ",".join(row), *lines[4:]]


EDITS: dict[str, Callable[[Lines], Lines]] = {
    "accuracy 5": lambda lines: with_value(lines, "accuracy", "5.000000"),
    "accuracy below 0": lambda lines: with_value(lines, "accuracy", "-0.100000"),
    "accuracy nan": lambda lines: with_value(lines, "accuracy", "nan"),
    "accuracy 0_1": lambda lines: with_value(lines, "accuracy", "0_1"),
    "accuracy in Arabic digits": lambda lines: with_value(lines, "accuracy", "\u0660.\u0661"),
    "error 1e300": lambda lines: with_value(lines, "standard_error", "1e300"),
    "error nan": lambda lines: with_value(lines, "standard_error", "nan"),
    "accuracy inf": lambda lines: with_value(lines, "accuracy", "inf"),
    "no accuracy": lambda lines: with_value(lines, "accuracy", ""),
    "a word": lambda lines: with_value(lines, "accuracy", "good"),
    "error below 0": lambda lines: with_value(lines, "standard_error", "-0.1"),
    "more tasks": lambda lines: with_value(lines, "tasks", "4000"),
    "another shot": lambda lines: with_value(lines, "shot", "5"),
    "another pool": lambda lines: with_value(lines, "pool", "meta-validation"),
    "another mode": lambda lines: with_value(lines, "mode", "both"),
    "another step": lambda lines: with_value(lines, "outer_step", "5"),
    "a row twice": lambda lines: [*lines, lines[-1]],
    "a row missing": lambda lines: lines[:-1],
    "a row missing inside": lambda lines: [*lines[:2], *lines[3:]],
    "another order": lambda lines: [lines[0], *reversed(lines[1:])],
    "no rows": lambda lines: lines[:1],
    "nothing": lambda lines: [],
    "a value more": lambda lines: [*lines[:-1], lines[-1] + ",1"],
    "a column twice": lambda lines: [line + "," + line.split(",")[-1] for line in lines],
    "a column renamed": lambda lines: [lines[0].replace("accuracy", "score"), *lines[1:]],
    "an open quote": lambda lines: [*lines[:-1], lines[-1] + '"'],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_curve_sealed_after_an_edit_is_checked_by_what_it_says(
    edit: Callable[[Lines], Lines], computed_project: Path
) -> None:
    assert not verify({Path(): None}).mismatches
    lines = edit(CURVE.read_text(encoding="utf-8").splitlines())
    cells.write_sealed(CURVE, "".join(f"{line}\n" for line in lines), cells.read_run(CURVE))
    (mismatch,) = verify({Path(): None}).mismatches
    assert mismatch.path == CURVE
    assert f"firstorder train {TRAINING} --seed 0" in mismatch.text


@pytest.mark.parametrize(
    ("key", "value"), [("outer_steps", 10**15), ("outer_steps", "6"), ("curve", None), ("curve", {"every": 0})]
)
def test_settings_that_no_training_has_are_a_mismatch(key: str, value: object, computed_project: Path) -> None:
    run = cells.read_run(CURVE)
    run["settings"]["training"][key] = value
    changed = {**run, **cells.made_with(run["settings"])}
    cells.write_sealed(CURVE, CURVE.read_text(encoding="utf-8"), changed)
    assert CURVE in [mismatch.path for mismatch in verify({Path(): None}).mismatches]


@pytest.mark.parametrize("without", ["settings", "training"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_the_settings_are_those_of_params_yaml_where_the_run_file_has_none(
    edit: Callable[[Lines], Lines], without: str, computed_project: Path
) -> None:
    lines = edit(CURVE.read_text(encoding="utf-8").splitlines())
    run = {key: value for key, value in cells.read_run(CURVE).items() if key != without}
    cells.write_sealed(CURVE, "".join(f"{line}\n" for line in lines), run)
    assert [mismatch.path for mismatch in verify({Path(): None}).mismatches] == [CURVE]


def test_a_run_file_of_a_curve_names_its_settings(computed_project: Path) -> None:
    run = {key: value for key, value in cells.read_run(CURVE).items() if not key.startswith("settings")}
    cells.write_sealed(CURVE, CURVE.read_text(encoding="utf-8"), run)
    assert [mismatch.path for mismatch in verify({Path(): None}).mismatches] == [CURVE]


def test_a_curve_of_one_task_has_no_standard_error() -> None:
    row = ["2", "meta-test", "inductive", "1", "1", "0.5", "nan"]
    assert measured.wrong_values(columns.CURVE, [row]) is None
    assert measured.wrong_values(columns.CURVE, [[*row[:4], "2", *row[5:]]]) is not None


def study(name: str) -> tuple[list[str], list[list[str]], dict[str, object]]:
    path = REPOSITORY / "results/curves" / name
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    return header, rows, cells.read_run(path).get("settings", {})


STUDIES = {
    "adaptation": "adaptation/reptile/omniglot-5way/1shot/seed-0.csv",
    "alphabets": "alphabets/reptile/omniglot-5way/1shot/seed-0.csv",
    "sine/losses": "sine/losses.csv",
    "sine/fits": "sine/fits.csv",
    "manifolds": "manifolds/points.csv",
    "theory/expansion": "theory/expansion.csv",
    "theory": "theory/reptile/omniglot-5way-sum4/seed-0.csv",
}


@pytest.mark.parametrize(("kind", "name"), STUDIES.items(), ids=STUDIES)
def test_the_results_of_studies_are_checked_too(kind: str, name: str) -> None:
    header, rows, made = study(name)
    assert measured.wrong_study(kind, header, rows, made) is None
    assert measured.wrong_study(kind, header[:-1], rows, made) is not None
    keys = measured.STUDIES[kind][1]
    for other in (rows[1:], [*rows, rows[0]], rows[:0]) if keys else ():
        assert measured.wrong_study(kind, header, other, made) is not None
    for value in ("nan", "inf", "0_1", "\u0661", "", "1e999"):
        assert measured.wrong_study(kind, header, [[*rows[0][:-1], value], *rows[1:]], made) is not None, value


@pytest.mark.parametrize(
    "run", [None, {}, {"seconds": 1.0}, {"run_digest": "0"}], ids=["gone", "{}", "no seal", "half"]
)
@pytest.mark.parametrize("path", [RECORD, CURVE], ids=["record", "curve"])
def test_a_result_without_its_seal_is_a_mismatch_and_stale(
    path: Path, run: dict[str, object] | None, computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where no other one is sealed."""
    beside = path.with_suffix(".run.json")
    if run is None:
        beside.unlink()
    else:
        beside.write_text(cells.run_text(run), encoding="utf-8")
    assert (path if run is None else beside) in [mismatch.path for mismatch in verify({Path(): None}).mismatches]
    found = freshness.stale(Path(), checks.load("params.yaml"))
    assert [(Path(expected.path), why) for expected, why in found] == [(path, freshness.UNSEALED)]
    assert main(["stale"]) == 1
    assert freshness.UNSEALED in capsys.readouterr().out
    assert main(["accuracies"]) == (2 if path == RECORD else 0)
    for other in Path("results").rglob("*.run.json"):
        other.unlink()
    assert verify({Path(): None}).mismatches
    assert main(["accuracies"]) == 2
    assert freshness.UNSEALED in capsys.readouterr().err


@pytest.mark.parametrize("path", [RECORD, CURVE], ids=["record", "curve"])
def test_a_run_file_without_its_result_is_a_mismatch(path: Path, computed_project: Path) -> None:
    path.unlink()
    mismatches = {mismatch.path: mismatch.text for mismatch in verify({Path(): None}).mismatches}
    assert "expected the result that its run file seals, found none; fix: firstorder " in mismatches[path]


@pytest.mark.parametrize("said", ["digest {};", "digest 0;", None])
def test_a_census_names_the_digest_of_its_pack(said: str | None, computed_project: Path) -> None:
    pack, census = Path("data/omniglot.npz"), Path("data/omniglot.census.csv")
    census.write_bytes(b"\xff" if said is None else said.format(packs.read_pack(pack)[1]).encode())
    found = [mismatch.path for mismatch in verify({Path(): None}).mismatches]
    assert found == ([] if said == "digest {};" else [census])
