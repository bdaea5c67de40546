"""A study that is stopped wherever it can be ends with the bytes of one that was not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from firstorder.__main__ import main
from firstorder.cli import signals
from firstorder.progress import Stopped
from firstorder.records.states import read_sealed, write_sealed
from firstorder.records.study_files import StudyFile
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, files_below
from tests.studies.sine_settings import small, training
from tests.studies.test_probes import SECTIONS
from tests.studies.test_theory import PRODUCTS, THEORY

# The verb's arguments, and how often it asks whether to stop: after each chunk of tasks, training or outer step.
STUDIES = {
    "adaptation": (["adaptation", EVALUATION, "--seed", "0"], 2),
    "alphabets": (["alphabets", EVALUATION, "--seed", "0"], 2),
    "sine": (["sine"], 3),
    "inner products": (["inner-products", TRAINING, "--seed", "0"], 4 + 8),
}


@pytest.fixture
def project(computed_project: Path) -> Path:
    """Add the sections of all studies to the computed project."""
    sine = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(small(joint=training(inner_steps=1))))))
    products = {**PRODUCTS, "trainings": [TRAINING], "outer_steps": 4, "measurements": 2}
    theory = {**THEORY, "inner_products": products}
    values = {**TINY_PARAMS, **SECTIONS, "sine": sine, "theory": theory}
    (computed_project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return computed_project


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def results(root: Path) -> dict[str, bytes]:
    return {name: text for name, text in files_below(root).items() if not name.endswith(".run.json")}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_stopped_at_every_point_ends_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, stops = STUDIES[name]
    before = results(project)
    assert main(arguments) == 0
    whole = results(project)
    for path in set(whole) - set(before):
        (project / path).unlink()
    monkeypatch.setattr(signals.Stopping, "__call__", lambda self: True)
    for _ in range(stops):
        assert results(project).keys() - before.keys() <= {*map(_relative, project.glob(".work/studies/*"))}
        assert main(arguments) == signals.OUT_OF_TIME
        assert "stopped; the same command goes on from there" in capsys.readouterr().err
        (kept,) = project.glob(".work/studies/*")
        assert kept.stat().st_size < 2e6
    assert main(arguments) == 0
    assert results(project) == whole


def _relative(path: Path) -> str:
    return path.relative_to(Path.cwd()).as_posix()


def stop() -> bool:
    return True


def test_what_is_kept_is_read_back_with_its_seconds(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([7])}
    path = tmp_path / "study.safetensors"
    first = StudyFile(path, "this", begun=-100.0)
    first.keep(arrays)
    assert not path.exists()  # not due yet
    with pytest.raises(Stopped):
        dataclasses.replace(first, stop=stop).keep(arrays)
    again = StudyFile(path, "this")
    assert {name: array.tolist() for name, array in again.load().items()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": [7]}
    assert again.seconds >= 100
    assert StudyFile(path, "another").load() == {}
    again.discard()
    assert again.load() == {}


def test_any_flipped_bit_is_found_and_the_file_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.safetensors"
    with pytest.raises(Stopped):
        StudyFile(path, "this", stop).keep({"a": np.arange(4)})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert StudyFile(path, "this").load() == {}, place
        assert not path.exists(), place
    assert "and the study starts from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adaptation", "alphabets", "sine", "inner products"])
@pytest.mark.parametrize("arrays", [{"toasters": np.ones(3)}, {}], ids=["other names", "other shapes"])
def test_arrays_that_cannot_be_are_set_aside_although_their_digest_is_right(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arrays: dict[str, np.ndarray],
) -> None:
    verb, _ = STUDIES[name]
    assert main(verb) == 0
    whole = results(project)
    with monkeypatch.context() as patched:
        patched.setattr(signals.Stopping, "__call__", lambda _: True)
        assert main(verb) != 0
    (path,) = (project / ".work/studies").glob("*.safetensors")
    tensors, about = read_sealed(path)
    spoilt = {key: torch.from_numpy(array) for key, array in arrays.items()}
    spoilt = spoilt or {key: torch.zeros(7, dtype=tensor.dtype) for key, tensor in tensors.items()}
    write_sealed(path, spoilt, about)
    capsys.readouterr()
    assert main(verb) == 0
    assert "damaged.safetensors" in capsys.readouterr().err or name in ("sine", "inner products")
    assert {key: text for key, text in results(project).items() if not key.startswith(".work")} == {
        key: text for key, text in whole.items() if not key.startswith(".work")
    }
