"""Results, checkpoints and states of another folder: what is sound, fresh and further is taken, nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.records import cells
from firstorder.records.kept_files import counts_digest, read_counts
from firstorder.records.states import read_sealed, write_sealed
from firstorder.upkeep import stages
from tests.cli.test_suspend import (
    COUNTS,
    CURVE,
    EVALUATE,
    MODEL,
    RECORD,
    REPOSITORY,
    STATE,
    TRAIN,
    killed,
    spoil,
    step_of,
    stopped_after,
    working,
)
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, tiny_pack, write_params


@pytest.fixture
def there(computed_once: Path, tmp_path: Path) -> Path:
    """Return another working folder, which has trained and evaluated seed 0."""
    return Path(shutil.copytree(computed_once, tmp_path / "there"))


@pytest.fixture
def further(tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return another working folder, which has trained 4 of 6 outer steps; it is not the working folder."""
    there = Path(shutil.copytree(tiny_project, tmp_path / "there"))
    monkeypatch.chdir(there)
    stopped_after(monkeypatch, 4)
    monkeypatch.chdir(tiny_project)
    return there


@pytest.fixture
def counting(tiny_project: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return another working folder, which has trained seed 0 and counted 10 of 12 tasks."""
    shutil.rmtree(there / "results/cells")
    monkeypatch.chdir(there)
    killed(*EVALUATE)
    monkeypatch.chdir(tiny_project)
    return there


def collected(capsys: pytest.CaptureFixture[str], source: Path) -> tuple[int, list[str]]:
    """Collect from `source`; return the exit code and the lines, with paths relative to `source`."""
    capsys.readouterr()
    code = main(["collect", str(source)])
    return code, capsys.readouterr().out.replace(f"{source}/", "").splitlines()


def stamps(root: Path) -> dict[str, tuple[bytes, int]]:
    """Map every file but locks to its content and the time of its last change."""
    found = files_below(root)
    return {name: (text, (root / name).stat().st_mtime_ns) for name, text in found.items() if "locks/" not in name}


def test_everything_that_verifies_is_taken_and_twice_changes_nothing(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = collected(capsys, there)
    assert code == 0
    transductive = RECORD.replace("inductive", "transductive")
    assert lines[:-1] == [f"took: {name}" for name in (MODEL, CURVE, RECORD, transductive)]
    assert lines[-1].startswith("took 4, refused 0, left 0")
    for name in (MODEL, CURVE, RECORD, transductive):
        assert (tiny_project / name).read_bytes() == (there / name).read_bytes()
    for name in (CURVE, RECORD, transductive):
        run = Path(name).with_suffix(".run.json")
        assert (tiny_project / run).read_bytes() == (there / run).read_bytes()
    assert main(["verify"]) == 0
    assert main(["stale"]) == 0
    before = stamps(tiny_project)
    assert collected(capsys, there) == (
        0,
        [f"{NOTHING}; 4 are here already"],
    )
    assert stamps(tiny_project) == before


NOTHING = "took 0, refused 0, left 0 that are no further than here"
SEALED = {"record": RECORD, "curve": CURVE}
Change = Callable[[Path], object]


def _replaced(name: str, old: str, new: str, *, sealed: bool = False) -> Change:
    def change(root: Path) -> None:
        path = root / name
        text, run = path.read_text(encoding="utf-8"), cells.read_run(path)
        changed = re.sub(old, new, text, count=1)
        assert changed != text
        path.write_text(changed, encoding="utf-8")
        if sealed:
            cells.write_run(path, cells.sealed(run, path.read_bytes()))

    return change


def _unsealed(name: str) -> Change:
    def change(root: Path) -> None:
        run = cells.read_run(root / name)
        kept = {key: value for key, value in run.items() if key not in ("sha256", "run_digest")}
        (root / name).with_suffix(".run.json").write_text(cells.run_text(kept), encoding="utf-8")

    return change


def _moved(name: str, to: str) -> Change:
    """Put a result and its run file in the place of another one."""

    def change(root: Path) -> None:
        for suffix in (Path(name).suffix, ".run.json"):
            target = (root / to).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / name).with_suffix(suffix).rename(target)

    return change


OTHER_SEED = RECORD.replace("seed-0", "seed-1")
UNKNOWN = RECORD.replace("seed-0", "seed-7")
FAULTS: dict[str, tuple[str, Change, str]] = {
    "a tampered record": (RECORD, _replaced(RECORD, '"tasks": 12', '"tasks": 13'), "expected SHA-256"),
    "a tampered curve": (CURVE, _replaced(CURVE, "0\\.", "1."), "expected SHA-256"),
    "a resealed curve": (
        CURVE,
        _replaced(CURVE, ",\\d\\.\\d+,", ",5.0,", sealed=True),
        "expected accuracy from 0",
    ),
    "a record without a run file": (
        RECORD,
        lambda root: (root / RECORD).with_suffix(".run.json").unlink(),
        "it is not sealed: it has no run file",
    ),
    "an unsealed record": (RECORD, _unsealed(RECORD), "expected a run file that seals it, found none"),
    "an unsealed curve": (CURVE, _unsealed(CURVE), "expected a run file that seals it, found none"),
    "a record of another seed": (OTHER_SEED, _moved(RECORD, OTHER_SEED), "expected path"),
    "a seed not asked for": (UNKNOWN, _moved(RECORD, UNKNOWN), "params.yaml here lists nothing with this name"),
    "a flipped bit in a checkpoint": (
        MODEL,
        lambda root: spoil(root / MODEL, "a flipped bit"),
        "its SHA-256 is",
    ),
    "a checkpoint whose curve is gone": (
        MODEL,
        lambda root: shutil.rmtree(root / "results/curves"),
        "no curve that verifies and is fresh states its SHA-256",
    ),
    **{
        f"{what} for a {kind}": (name, lambda root, name=name, what=what: spoil(root / name, what), why)
        for kind, name in {**SEALED, "checkpoint": MODEL}.items()
        for what, why in {
            "a FIFO": "is a FIFO, not a file",
            "a folder": "Is a directory",
            "a link": "it is a link, expected a file",
            "a link to nothing": "it is a link, expected a file",
        }.items()
    },
    "a FIFO for a run file": (
        RECORD,
        lambda root: spoil((root / RECORD).with_suffix(".run.json"), "a FIFO"),
        "is a FIFO, not a file",
    ),
    "a link for a run file": (
        RECORD,
        lambda root: spoil((root / RECORD).with_suffix(".run.json"), "a link"),
        "it is a link, expected a file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_result_is_refused_with_the_reason_and_the_others_are_taken(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    name, change, why = FAULTS[fault]
    change(there)
    code, lines = collected(capsys, there)
    assert code == 1
    told = [line for line in lines if line.startswith(f"refused: {name} (")]
    assert len(told) == 1
    assert why in told[0]
    assert "; fix" not in told[0]
    assert str(tiny_project) not in told[0]  # the stage is not shown
    assert not os.path.lexists(tiny_project / name)
    assert (tiny_project / RECORD.replace("inductive", "transductive")).exists()
    assert main(["verify"]) == 0
    assert not list((tiny_project / ".work").glob("collect-*"))


def test_stale_results_and_those_of_other_data_are_refused(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(tiny_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 13)))
    code, lines = collected(capsys, there)
    assert code == 1
    why = "(stale: params.yaml has changed since: evaluation.tasks: 12 -> 13)"
    assert f"refused: {RECORD} {why}" in lines
    assert sorted(line for line in lines if line.startswith("took:")) == [f"took: {MODEL}", f"took: {CURVE}"]
    shutil.rmtree(tiny_project / "results")
    write_params(tiny_project, TINY_PARAMS)
    pack = tiny_pack()
    packs.write_pack(tiny_project / "data/omniglot.npz", packs.Pack(pack.images[:, ::-1].copy(), pack.class_names, 1))
    shutil.rmtree(tiny_project / "models")
    code, lines = collected(capsys, there)
    assert code == 1
    assert lines[-1].startswith("took 0, refused 4")
    assert f"refused: {CURVE} (stale: the data has changed since: data_digest: " in " ".join(lines)


def test_what_is_valid_here_is_left_and_what_is_not_is_replaced(
    computed_project: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, run = (computed_project / RECORD), (computed_project / RECORD).with_suffix(".run.json")
    values = json.loads(record.read_text(encoding="utf-8"))
    histogram = values["correct_histogram"]
    histogram[0], histogram[-1] = histogram[-1], histogram[0]
    cells.write_sealed(record, json.dumps(values, sort_keys=True, indent=1) + "\n", cells.read_run(record))
    before = record.read_bytes(), run.read_bytes()
    code, lines = collected(capsys, there)
    assert (code, lines[0]) == (0, f"left: {RECORD} (another one is here, which is valid)")
    assert (record.read_bytes(), run.read_bytes()) == before
    for spoilt in (b"{}", b"", before[0].replace(b'"tasks": 12', b'"tasks": 11')):  # edited, cut short
        record.write_bytes(spoilt)
        assert collected(capsys, there)[1][0] == f"took: {RECORD}"
        assert record.read_bytes() == (there / RECORD).read_bytes()
        assert main(["verify"]) == 0
    record.rename(record.with_name("moved"))
    record.symlink_to("moved")
    run.unlink()
    code, lines = collected(capsys, there)
    assert code == 1
    assert lines[0].endswith("is there and is no file)")
    assert record.is_symlink()


def test_a_result_measured_on_another_checkpoint_is_refused(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here it was trained too, with another outcome, as happens on other machines."""
    assert collected(capsys, there)[0] == 0
    shutil.rmtree(tiny_project / "results/cells")
    model = tiny_project / MODEL
    model.write_bytes(model.read_bytes() + b" ")
    run = cells.read_run(tiny_project / CURVE)
    run["checkpoint_digest"] = "0" * 64
    cells.write_run(tiny_project / CURVE, cells.sealed(run, (tiny_project / CURVE).read_bytes()))
    code, lines = collected(capsys, there)
    assert code == 1
    assert f"refused: {RECORD} (measured on another checkpoint, " in " ".join(lines)
    assert f"refused: {MODEL} (its SHA-256 is " in " ".join(lines)
    assert not (tiny_project / RECORD).exists()


def test_a_state_that_is_further_is_taken_and_one_that_is_less_far_is_left(
    tiny_project: Path, further: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = working(further)
    stopped_after(monkeypatch, 2)
    assert collected(capsys, further)[1][0] == f"took: {state}, at outer step 4 of 6"
    assert step_of(tiny_project, state) == 4
    assert collected(capsys, further)[1] == [f"{NOTHING}; 1 are here already"]
    stopped_after(monkeypatch, 1)
    before = stamps(tiny_project)
    assert collected(capsys, further)[1][0] == f"left: {state} (outer step 4 of 6; here it is at 5)"
    assert stamps(tiny_project) == before
    assert main(TRAIN) == 0
    assert main(EVALUATE) == 0
    assert collected(capsys, further)[1][0] == f"left: {state} (it is finished here)"


def test_a_state_that_is_further_where_it_is_suspended_is_taken_and_gone_on_from(
    tiny_project: Path, further: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(further)
    assert main(["suspend"]) == 0
    shutil.rmtree(further / ".work")
    monkeypatch.chdir(tiny_project)
    assert collected(capsys, further)[0] == 0
    assert step_of(tiny_project, working(tiny_project)) == 4


SHAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "fewer second moments": lambda tensors: tensors.update(second_moments=tensors["second_moments"][:, :-3]),
    "two lanes": lambda tensors: tensors.update(second_moments=tensors["second_moments"].repeat(2, 1)),
    "a flat one": lambda tensors: tensors.update(second_moments=tensors["second_moments"][0]),
    "another network": lambda tensors: tensors.update(
        {name: tensors[name][:, :-5] for name in ("parameters", "second_moments")}
    ),
    "other moments of the outer optimiser": lambda tensors: tensors.update(outer_moments=torch.zeros(2, 1, 3)),
    "another type": lambda tensors: tensors.update(parameters=tensors["parameters"].double()),
    "moments below zero": lambda tensors: tensors["second_moments"].neg_(),
}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_a_state_that_does_not_fit_replaces_none(
    tiny_project: Path,
    further: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
) -> None:
    """Although its digest is right and it is further."""
    stopped_after(monkeypatch, 2)
    mine, state = working(tiny_project), further / working(further)
    before = (tiny_project / mine).read_bytes()
    tensors, about = read_sealed(state)
    change(tensors)
    write_sealed(state, {name: tensor.contiguous() for name, tensor in tensors.items()}, about)
    code, lines = collected(capsys, further)
    assert code == 1
    assert lines[0].startswith(f"refused: {mine} (")
    assert (tiny_project / mine).read_bytes() == before


def test_what_is_of_other_data_here_is_set_aside_and_not_replaced(
    tiny_project: Path, further: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state, pack = tiny_project / working(tiny_project), tiny_project / "data/omniglot.npz"
    good = pack.read_bytes()
    other = tiny_pack()
    packs.write_pack(pack, packs.Pack(other.images[:, ::-1].copy(), other.class_names, 1))
    stopped_after(monkeypatch, 5)
    theirs = state.read_bytes()
    pack.write_bytes(good)
    code, lines = collected(capsys, further)
    assert code == 0
    (aside,) = state.parent.glob("seed-0.other-*")
    assert lines[0].startswith(f"set aside: {working(tiny_project)} as {aside.name} (")
    assert aside.read_bytes() == theirs
    assert step_of(tiny_project, working(tiny_project)) == 4
    assert main(["suspend"]) == 0
    assert aside.name not in capsys.readouterr().out


def test_names_are_printed_in_one_line_each_without_control_characters(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = (there / RECORD).parent
    odd = [
        "seed-0\ntook: all.json",
        "seed-\x1b[31mred.json",
        "seed-0\r\x9b2Kx.json",
        "seed-0\u2028took: x.json",
        "seed-\u202ex.json",
    ]
    for name in odd:
        (folder / name).write_text("x", encoding="utf-8")
    shutil.rmtree(there / "models")
    assert main(["collect", str(there)]) == 1
    out = capsys.readouterr().out
    lines = out.split("\n")
    assert len([line for line in lines if line.startswith("refused: ")]) >= len(odd)
    assert not any(line.startswith("took: all") for line in lines)
    assert all(character.isprintable() or character == "\n" for character in out)


def test_what_a_killed_collection_left_is_removed_by_the_next_one(
    tiny_project: Path, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import os, signal; from pathlib import Path; from firstorder.upkeep import stages\n"
        "with stages.stage(Path('.work')) as made:\n"
        "    (made / 'x').mkdir(); (made / 'x/y').write_text('y'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    Path(".work").mkdir()
    subprocess.run([sys.executable, "-c", program], check=False)
    (left,) = Path(".work").iterdir()
    own = Path(".work/collect-of-mine")
    own.mkdir()
    (tmp_path / "kept").mkdir()
    Path(".work/collect-abcdefgh").symlink_to(tmp_path / "kept")
    with stages.stage(Path(".work")) as held:
        assert not left.exists()
        assert collected(capsys, there)[0] == 0
        assert held.exists()  # a living process has it
    assert own.exists()
    assert (tmp_path / "kept").exists()


@pytest.mark.parametrize("place", range(0, 100, 3))
def test_a_state_with_a_flipped_bit_is_refused(
    tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy("params.yaml", there)
    content = bytearray(_whole_state(tiny_project, monkeypatch))
    state = there / working(tiny_project)
    state.parent.mkdir(parents=True)
    at = place * len(content) // 100 if place > 20 else place * 100  # most of the header's text
    content[at] ^= 1 << place % 8
    state.write_bytes(content)
    code, lines = collected(capsys, there)
    assert code == 1
    assert lines[0].startswith(f"refused: {working(tiny_project)} (")
    assert not (tiny_project / working(tiny_project)).exists()


_STATES: list[bytes] = []


def _whole_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the content of a state, which is computed once."""
    if not _STATES:
        stopped_after(monkeypatch, 2)
        _STATES.append((root / working(root)).read_bytes())
        (root / working(root)).unlink()
    return _STATES[0]


@pytest.mark.parametrize("what", ["a FIFO", "a folder", "a link", "a link to nothing", "cut short", "empty"])
def test_a_state_or_counts_that_are_no_file_or_damaged_are_refused(
    tiny_project: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    shutil.rmtree(there / "results")
    shutil.rmtree(there / "models")
    kept = {STATE: _whole_state(tiny_project, monkeypatch), COUNTS: b"{}"}
    for name, content in kept.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
        spoil(there / name, what)
    code, lines = collected(capsys, there)
    assert code == 1
    assert sorted(line.split(" ")[1] for line in lines[:-1]) == sorted(kept)
    assert all(line.startswith("refused: ") for line in lines[:-1])
    assert {name for name in files_below(tiny_project) if "locks/" not in name} == {"params.yaml", "data/omniglot.npz"}


def test_states_of_other_settings_data_or_seeds_are_refused(
    tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    (there / STATE).parent.mkdir(parents=True)
    shutil.copy("params.yaml", there)
    (there / STATE).write_bytes(_whole_state(tiny_project, monkeypatch))
    write_params(tiny_project, edit(TINY_PARAMS, (("trainings", TRAINING, "outer_steps"), 7)))
    why = "(params.yaml has changed since: training.outer_steps: 6 -> 7)"
    assert collected(capsys, there)[1][0] == f"refused: {STATE} {why}"
    write_params(tiny_project, TINY_PARAMS)
    other = STATE.replace("seed-0", "seed-1")
    (there / STATE).rename(there / other)
    assert collected(capsys, there)[1][0] == f"refused: {other} (it is that of seed 0)"
    (there / other).rename(there / STATE)
    packs.write_pack(tiny_project / "data/omniglot.npz", tiny_pack(images=19))
    assert "refused" in (line := collected(capsys, there)[1][0])
    assert "the data has changed since: data_digest: " in line


def test_counts_go_along_with_their_checkpoint(
    tiny_project: Path, counting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = collected(capsys, counting)
    assert code == 0
    assert [line.split(" ")[1].rstrip(",") for line in lines[:2]] == [MODEL, CURVE]
    assert lines[2].endswith(", at task 10 of 12")
    capsys.readouterr()
    assert main(EVALUATE) == 0
    assert [leg["tasks"] for leg in cells.read_run(tiny_project / RECORD)["legs"]] == [10, 2]


def test_counts_that_cannot_be_or_are_of_another_checkpoint_are_refused(
    counting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (name,) = [name for name in files_below(counting) if "counts-0" in name]
    kept = read_counts((counting / name).read_bytes())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"counts": {**kept["counts"], "inductive": [6] * 10}}, "a count is none of 0 to 5"),
        ({"of": {**kept["of"], "checkpoint_digest": "0" * 64}}, "it was counted with another checkpoint"),
        ({"of": {**kept["of"], "seed": 1}}, "it is that of seed 1"),
        ({"of": {}}, "it is damaged (KeyError"),
        ({"legs": None}, "it is damaged (TypeError"),
        ({"identity": "abc"}, "it is of other settings, data or seed"),
    ]
    for change, why in wrong:
        values = {**kept, **change}
        if "of" in change:
            values["identity"] = settings.digest(values["of"])
        text = {**values, "sha256": counts_digest(values)}
        (counting / name).write_text(json.dumps(text), encoding="utf-8")
        code, lines = collected(capsys, counting)
        assert code == 1
        assert any(line.startswith(f"refused: {name} (") and why in line for line in lines), (why, lines)


NO_PROJECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: None, "it has no params.yaml"),
    "an empty folder": (lambda folder: folder.mkdir(), "it has no params.yaml"),
    "a file": (lambda folder: folder.write_text("text"), "it has no params.yaml"),
    "a folder for params.yaml": (lambda folder: (folder / "params.yaml").mkdir(parents=True), "it has no params.yaml"),
    "other YAML": (
        lambda folder: (folder.mkdir(), (folder / "params.yaml").write_text("a: 1\n")),
        "params.yaml",
    ),
    "this folder": (lambda folder: folder.symlink_to(Path.cwd()), "it is the folder to collect into"),
}


@pytest.mark.parametrize("case", NO_PROJECTS)
def test_a_folder_that_is_no_project_is_refused_in_one_line(
    tiny_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    make, why = NO_PROJECTS[case]
    make(tmp_path / "other")
    assert main(["collect", str(tmp_path / "other")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert why in said.err


def test_a_link_to_a_folder_in_the_source_is_refused(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "models").rename(there / "elsewhere")
    (there / "models").mkdir()
    (there / "models/reptile").symlink_to(there / "elsewhere/reptile")
    code, lines = collected(capsys, there)
    assert code == 1
    assert "refused: models/reptile (it is a link, expected a folder)" in lines


def test_nothing_is_collected_while_another_command_computes_here(
    tiny_project: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = "import sys, time; from pathlib import Path; from firstorder.upkeep import locks\n"
    program += "locks.take(Path(), locks.WHOLE, 'make paper', print); print('held', flush=True); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    holder = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        assert main(["collect", str(there)]) == 2
        assert "in use by process" in capsys.readouterr().err
        assert not (tiny_project / "results").exists()
    finally:
        holder.kill()
        holder.communicate()
