"""Records: they are read back as written, inconsistent ones are refused, and a changed setting is named."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firstorder.errors import UserError
from firstorder.records import cells, row_files
from firstorder.settings import RECORD, Cell, checks, first_difference
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT, TRAINING, changed_params, make_project, make_record

HISTOGRAM = (1, 2, 3, 4, 40, 50)
RUN = {"seconds": 1.5, "commit": "abc"}


def written(root: Path) -> Path:
    """Write a record and return its path."""
    record = make_record(make_project(root), ONE_SHOT, "inductive", 0, HISTOGRAM)
    return cells.write_record(root, record, RUN)


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply `change` to the JSON at `path`."""
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_record_is_read_back_as_written(tmp_path: Path) -> None:
    record = make_record(make_project(tmp_path), ONE_SHOT, "inductive", 0, HISTOGRAM)
    path = cells.write_record(tmp_path, record, RUN)
    assert path == tmp_path / f"results/cells/{ONE_SHOT}/inductive/seed-0.json"
    assert cells.read_record(path) == record
    assert (record.evaluation, record.column) == (ONE_SHOT, "omniglot-5way/1shot")


DIGESTS = {"data_digest": "0" * 16, "training_digest": "1" * 16, "checkpoint_digest": "2" * 16}


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_a_record_names_the_precision_of_its_settings(tmp_path: Path, precision: str) -> None:
    values = changed_params()
    values["trainings"][TRAINING]["precision"] = precision
    project = make_project(tmp_path, values)
    assert cells.make_record(project, Cell(ONE_SHOT, "inductive", 0), DIGESTS, HISTOGRAM).precision == precision


def test_without_that_setting_it_says_float32_and_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """The other is made up without the function that is tested."""
    project = make_project(tmp_path)
    made = cells.make_record(project, Cell(ONE_SHOT, "inductive", 0), DIGESTS, HISTOGRAM)
    assert made.precision == "float32"
    assert made.to_json() == make_record(project, ONE_SHOT, "inductive", 0, HISTOGRAM).to_json()


@pytest.mark.parametrize("folder", [".", "reduced"])
def test_every_committed_record_would_be_written_the_same_to_the_byte(folder: str) -> None:
    root = Path(__file__).parents[2] / folder
    project = checks.load(root / "params.yaml")
    records = cells.read_records(root, project)
    assert records
    for record in records:
        digests = {name: getattr(record, name) for name in DIGESTS}
        cell = Cell(record.evaluation, record.mode, record.seed)
        again = cells.make_record(project, cell, digests, record.correct_histogram)
        path = root / RECORD.format(evaluation=record.evaluation, mode=record.mode, seed=record.seed)
        assert again.to_json().encode() == path.read_bytes()


def test_how_a_record_was_made_is_beside_it_and_not_in_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    run = json.loads(path.with_name("seed-0.run.json").read_text(encoding="utf-8"))
    assert {key: run[key] for key in RUN} == RUN
    first = path.read_bytes()
    record = cells.read_record(path)
    cells.write_record(tmp_path, record, {"seconds": 99.0})
    assert path.read_bytes() == first


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such record; compute it"):
        cells.read_record(tmp_path / "seed-0.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(schema=99), "expected schema 1, found 99"),
        (lambda values: values.pop("way"), "keys missing or unknown: way"),
        (lambda values: values.update(extra=1), "keys missing or unknown: extra"),
        (lambda values: values.update(tasks=99), "6 counts that add up to 99 tasks"),
        (lambda values: values["correct_histogram"].append(0), "must have 6 counts"),
        (lambda values: values["settings"]["training"].update(inner_steps=6), "settings_digest is"),
    ],
)
def test_an_inconsistent_record_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    path = changed(written(tmp_path), change)
    with pytest.raises(UserError) as refused:
        cells.read_record(path)
    message = str(refused.value)
    assert words in message
    assert f"git checkout -- {path}" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_file_that_is_not_a_record_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"seed-0\.json"):
        cells.read_record(path)


def test_only_listed_records_are_read_in_the_order_of_params(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    for evaluation, seed in ((FIVE_SHOT, 0), (ONE_SHOT, 2), (ONE_SHOT, 0), (ONE_SHOT, 9)):
        cells.write_record(tmp_path, make_record(project, evaluation, "inductive", seed, HISTOGRAM), RUN)
    read = [(record.evaluation, record.seed) for record in cells.read_records(tmp_path, project)]
    assert read == [(ONE_SHOT, 0), (ONE_SHOT, 2), (FIVE_SHOT, 0)]


def test_a_record_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.rename(path.with_name("seed-1.json"))
    with pytest.raises(UserError, match=r"seed-1\.json: it is the record of .*inductive, seed 0"):
        cells.read_records(tmp_path, make_project(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b: [1, 2] -> [1, 3]"),
        ({"a": 1}, {}, 'a: 1 -> "absent"'),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "a: 1 -> 2"),
    ],
)
def test_the_first_difference_is_named_with_both_values(
    old: dict[str, Any], new: dict[str, Any], expected: str | None
) -> None:
    assert first_difference(old, new) == expected


def test_rows_are_written_as_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "curves" / TRAINING / "seed-0.csv"
    row_files.write_rows(path, ("a", "b"), [(1, 0.5), (2, "x,y")])
    assert path.read_bytes() == b'a,b\n1,0.5\n2,"x,y"\n'
    assert [entry.name for entry in path.parent.iterdir()] == ["seed-0.csv"]


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row_files.write_rows(path, ("a",), [(1,)])

    def broken() -> Any:
        yield (2,)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        row_files.write_rows(path, ("a",), broken())
    assert path.read_text(encoding="utf-8") == "a\n1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


# --- Killed between a result and its run file ---


def test_a_kill_at_any_write_leaves_the_old_the_new_or_a_pair_known_to_be_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files are written where one is replaced; the process is killed before each of them in turn."""
    path = tmp_path / "results/curve.csv"
    original = cells.replacing
    for killed_before in range(4):
        cells.write_sealed(path, "old\n", {"seconds": 1})
        left = killed_before

        def replacing(target: Path) -> Any:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return original(target)

        monkeypatch.setattr(cells, "replacing", replacing)
        with contextlib.suppress(KeyboardInterrupt):
            cells.write_sealed(path, "new\n", {"seconds": 2})
        monkeypatch.setattr(cells, "replacing", original)
        content = path.read_bytes()
        assert content == (b"old\n" if killed_before < 2 else b"new\n")
        if killed_before == 1:
            with pytest.raises(cells.UnfinishedError, match="was killed; compute it again"):
                cells.check_unedited(path, content)
        else:
            assert cells.check_unedited(path, content)["seconds"] == (1 if killed_before < 2 else 2)
    assert cells.REPLACES not in cells.read_run(path)


def test_an_edit_is_no_unfinished_pair(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    cells.write_sealed(path, "old\n", {})
    cells.write_sealed(path, "new\n", {})
    path.write_text("edited\n")
    with pytest.raises(UserError, match="changed after it was recorded") as caught:
        cells.check_unedited(path, path.read_bytes())
    assert not isinstance(caught.value, cells.UnfinishedError)
