"""`firstorder verify`: a flipped byte is found anywhere, and reported with the command that repairs it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import omniglot, packs
from firstorder.data.omniglot import Content
from firstorder.records import cells
from firstorder.settings import checks
from firstorder.upkeep import dvc, mismatches, verify
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, tiny_pack, write_params
from tests.upkeep.test_dvc import git, new_repository

MODEL = Path(settings.MODEL.format(training=TRAINING, seed=0))
CURVE = Path(settings.CURVE.format(training=TRAINING, seed=0))
RECORD = Path(settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0))
PACK = Path("data/omniglot.npz")


def track(path: Path, *, push: bool = True) -> dvc.Tracked:
    """Write the .dvc file of `path` and put its object into cache and remote, as `dvc add` and `dvc push` do."""
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    output = {"md5": md5, "size": path.stat().st_size, "hash": "md5", "path": path.name}
    if not push:
        output["push"] = False
    Path(f"{path}.dvc").write_text(yaml.safe_dump({"outs": [output]}), encoding="utf-8")
    for store in (Path(".dvc/cache"), *([Path("published")] if push else [])):
        kept = dvc.object_path(store, md5)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(path.read_bytes())
    return dvc.read_dvc_file(Path(f"{path}.dvc"))[0]


@pytest.fixture
def kept(computed_project: Path) -> Path:
    """Return a computed project with its table of accuracies, whose pack and checkpoint DVC tracks."""
    Path(".dvc").mkdir()
    Path("published").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = published\n['remote \"published\"']\n    url = ../published\n")
    track(PACK, push=False)
    track(MODEL)
    assert main(["accuracies"]) == 0
    return computed_project


def found(*folders: Path) -> list[str]:
    return [mismatch.text for mismatch in verify.verify(dict.fromkeys(folders or [Path()])).mismatches]


def flip(path: Path, position: int) -> None:
    """Flip one bit of the byte at `position`."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def positions(path: Path) -> list[int]:
    """List the first byte, a byte near the start, the middle, a byte near the end, and the last byte."""
    size = path.stat().st_size
    return [0, min(9, size - 1), size // 2, 3 * size // 4, size - 1]


def test_a_whole_project_verifies(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "verified: 1 checkpoint, 1 curve, 2 files that DVC tracks, 2 objects in DVC's cache, "
        "1 object in DVC's remote, 1 pack, 2 records, 1 table of accuracies",
        "not compared: 1 archive (not here)",
        "no mismatch",
    ]


def test_a_folder_whose_params_are_refused_is_a_mismatch_and_the_others_are_verified(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("begun").mkdir()
    Path("begun/params.yaml").write_text('title: "Begun"\n')
    capsys.readouterr()
    assert main(["verify", "begun", "."]) == 1
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("begun/params.yaml: ")
    assert "1 checkpoint" in second
    assert last == "1 mismatch"
    assert main(["verify", "nowhere"]) == 2


KINDS: dict[str, Callable[[], Path]] = {
    "checkpoint": lambda: MODEL,
    "record": lambda: RECORD,
    "run file of a record": lambda: RECORD.with_suffix(".run.json"),
    "curve": lambda: CURVE,
    "run file of a curve": lambda: CURVE.with_suffix(".run.json"),
    "pack": lambda: PACK,
    "table of accuracies": lambda: Path("results/accuracies.csv"),
    "metrics": lambda: Path("results/metrics.json"),
    "object in the cache": lambda: next(dvc.objects(Path(".dvc/cache")))[0],
    "object in the remote": lambda: next(dvc.objects(Path("published")))[0],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_found_wherever_it_is(kept: Path, kind: str) -> None:
    path = KINDS[kind]()
    whole = path.read_bytes()
    for position in positions(path):
        flip(path, position)
        lines = found()
        assert any(str(path) in line and "; fix: " in line for line in lines), (position, lines)
        path.write_bytes(whole)
    assert found() == []


def test_every_byte_of_a_record_and_its_run_file_counts(kept: Path) -> None:
    target = verify.verify_records.Target(Path(), checks.load("params.yaml"), verify.Verification())
    for path in (RECORD, RECORD.with_suffix(".run.json")):
        whole = path.read_bytes()
        for byte in range(0, len(whole), 17):
            flip(path, byte)
            before = len(target.verification.mismatches)
            verify.verify_records.check_records(target)
            assert len(target.verification.mismatches) == before + 1, byte
            path.write_bytes(whole)


def unseal_all() -> None:
    for path in Path("results").rglob("*.run.json"):
        run = {key: value for key, value in json.loads(path.read_text()).items() if key not in cells.SEAL}
        path.write_text(cells.run_text(run))


def test_an_untracked_pack_is_checked_by_its_content(kept: Path) -> None:
    """A byte of the zip container may pass if the images and names that are read are those that were packed."""
    shutil.rmtree(".dvc")
    Path(f"{PACK}.dvc").unlink()
    whole, expected = PACK.read_bytes(), tiny_pack()
    missed = 0
    for byte in range(0, len(whole), len(whole) // 40):
        flip(PACK, byte)
        if not found():
            missed += 1
            read, _ = packs.read_pack(PACK)
            assert np.array_equal(read.images, expected.images)
            assert read.class_names == expected.class_names
        PACK.write_bytes(whole)
    assert missed < 5


def test_a_record_edited_by_hand_is_found_even_if_it_is_consistent(kept: Path) -> None:
    values = json.loads(RECORD.read_text(encoding="utf-8"))
    values["correct_histogram"] = [0] * 5 + [values["tasks"]]
    RECORD.write_text(json.dumps(values, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    (line, *_) = found()
    assert line.startswith(f"{RECORD}: expected SHA-256 ")
    assert line.endswith(f"; fix: firstorder evaluate {EVALUATION} --seed 0")


def test_a_record_that_claims_another_precision_than_its_settings_is_found(kept: Path) -> None:
    values = {**json.loads(RECORD.read_text(encoding="utf-8")), "precision": "bfloat16"}
    text = json.dumps(values, sort_keys=True, indent=1) + "\n"
    RECORD.write_text(text, encoding="utf-8")
    cells.write_run(RECORD, cells.sealed({}, text.encode()))
    assert any(line.startswith(f"{RECORD}: expected precision float32, found bfloat16; fix: ") for line in found())


def test_a_record_under_another_path_is_found(kept: Path) -> None:
    other = Path(settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=1))
    for suffix in (".json", ".run.json"):
        shutil.copy(RECORD.with_suffix(suffix), other.with_suffix(suffix))
    assert any(line.startswith(f"{other}: expected path {RECORD}, found {other}") for line in found())


@pytest.mark.parametrize("path", [MODEL, CURVE, RECORD])
def test_a_file_far_too_large_is_refused_before_it_is_hashed(
    kept: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    Path(f"{MODEL}.dvc").unlink()
    with path.open("r+b") as file:
        file.truncate(6 << 30)  # takes no space on the disk
    monkeypatch.setattr(mismatches, "hash_of", lambda _, __: "0")  # of DVC's objects; of no other file
    assert any("has 6,442,450,944 bytes, expected a" in text for text in found() if str(path) in text)


def test_a_run_file_belongs_to_its_curve(kept: Path) -> None:
    other = Path(settings.CURVE.format(training=TRAINING, seed=1))
    for suffix in (".csv", ".run.json"):
        shutil.copy(CURVE.with_suffix(suffix), other.with_suffix(suffix))
    (line,) = found()
    assert f"expected the run file of {other.name}, found it is the result of another seed: 0, expected 1" in line


def test_data_that_differs_from_the_records_is_found(kept: Path) -> None:
    shutil.rmtree(".dvc")
    Path(f"{PACK}.dvc").unlink()
    packs.write_pack(PACK, tiny_pack(classes=25))
    (line,) = found()
    assert line.startswith(f"{PACK}: expected digest ")
    assert f"firstorder train {TRAINING} --seed 0" in line


def test_a_checkpoint_of_another_architecture_is_named_and_evaluating_it_overwrites_nothing(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    name = "reptile/omniglot-7way"
    values = edit(TINY_PARAMS, (("trainings", name), {**TINY_PARAMS["trainings"][TRAINING], "way": 7}))
    packs.write_pack(other / PACK, tiny_pack())
    assert main(["train", name, "--params", str(write_params(other, values)), "--seed", "0", "--device", "cpu"]) == 0
    shutil.copy(other / settings.MODEL.format(training=name, seed=0), MODEL)
    assert any(line.startswith(f"{MODEL}: expected SHA-256") and f"training {name} seed 0" in line for line in found())
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["evaluate", EVALUATION, "--seed", "0", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{MODEL}: made for another network: dense.bias has shape (7,), expected (5,)" in line
    assert "dvc pull --force" in line
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before


def test_a_dvc_file_whose_object_is_missing_everywhere_is_found(kept: Path) -> None:
    MODEL.unlink()
    assert found() == []  # in the cache and the remote
    for store in (".dvc/cache", "published"):
        dvc.object_path(Path(store), dvc.read_dvc_file(Path(f"{MODEL}.dvc"))[0].md5).unlink()
    (line,) = found()
    assert line.startswith(f"{MODEL}.dvc: expected its object ")
    assert "dvc push" in line


def test_data_that_is_kept_out_of_the_remote_may_be_absent(kept: Path) -> None:
    shutil.rmtree("data")
    shutil.rmtree(".dvc/cache")
    Path("data").mkdir()
    output = {"md5": "0123456789abcdef" * 2, "size": 9, "path": PACK.name, "push": False}
    Path(f"{PACK}.dvc").write_text(yaml.safe_dump({"outs": [output]}))
    assert found() == []


def test_a_missing_remote_is_named(kept: Path) -> None:
    shutil.rmtree("published")
    assert any("published: the folder of remote 'published' does not exist" in line for line in found())
    Path(".dvc/config").write_text("")
    assert any("no default remote; add one: dvc remote add --default" in line for line in found())


@pytest.mark.parametrize("text", ["outs: [{path: a}]", "outs: 3", "{", "outs: [{md5: xyz, size: 1, path: a}]"])
def test_a_broken_dvc_file_is_named(kept: Path, text: str) -> None:
    Path(f"{MODEL}.dvc").write_text(text)
    assert any(line.startswith(f"{MODEL}.dvc: not a valid .dvc file") for line in found())


def test_a_fresh_clone_verifies_without_data_and_checkpoints(kept: Path) -> None:
    for folder in ("data", "models", ".dvc/cache"):
        for path in Path(folder).rglob("*"):
            if path.is_file() and path.suffix != ".dvc":
                path.unlink()
    verification = verify.verify({Path(): None})
    assert verification.mismatches == []
    assert verification.skipped == {
        "archives (not here)": 1,
        "files that DVC tracks (not here)": 2,
        "packs (not here)": 1,
    }


def test_results_of_which_none_is_sealed_are_all_mismatches(kept: Path) -> None:
    """Every version seals what it writes, and results from before are sealed where Git has them."""
    results = set(Path("results").rglob("*.run.json"))
    unseal_all()
    assert {mismatch.path for mismatch in verify.verify({Path(): None}).mismatches} == results
    for path in results:
        path.unlink()
    mismatches = verify.verify({Path(): None}).mismatches
    assert {mismatch.path.stem for mismatch in mismatches} == {"seed-0"}
    assert len(mismatches) == len(results)
    assert all("python tools/seal_results.py" in mismatch.text for mismatch in mismatches)


def test_verify_imports_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import firstorder.upkeep.verify, firstorder.upkeep.publish"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- Archives ---


@pytest.fixture
def archives(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put two small archives in the place of Omniglot's and let them count as the official ones."""
    folder = Path("data/raw/omniglot")
    folder.mkdir(parents=True)
    official = []
    for archive in omniglot.ARCHIVES:
        with zipfile.ZipFile(folder / archive.name, "w") as file:
            file.writestr(zipfile.ZipInfo(f"{Path(archive.name).stem}/a/b/c.png"), bytes(range(256)))
        content = (folder / archive.name).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        official.append(dataclasses.replace(archive, bytes=len(content), md5=md5))
    monkeypatch.setattr(omniglot, "ARCHIVES", tuple(official))
    return folder


def test_a_flipped_byte_of_an_archive_is_found_wherever_it_is(archives: Path) -> None:
    assert found() == []
    path = archives / omniglot.ARCHIVES[0].name
    whole = path.read_bytes()
    for byte in range(0, len(whole), 7):
        flip(path, byte)
        (line,) = found_in_archives()
        assert line.startswith(f"{path}: expected MD5 ")
        assert line.endswith(f"; fix: rm {path} && firstorder download --folder {archives}")
        path.write_bytes(whole)


def found_in_archives() -> list[str]:
    target = verify.verify_records.Target(Path(), checks.load("params.yaml"), verify.Verification())
    verify.verify_files.check_archives(target, verify.silent)
    return [mismatch.text for mismatch in target.verification.mismatches]


def test_archives_of_a_mirror_are_checked_by_their_content(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archives / omniglot.ARCHIVES[0].name
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"zipped again"
    assert any("expected 50 alphabets, found 1" in line for line in found_in_archives())
    monkeypatch.setattr(omniglot, "OFFICIAL", Content(1, 2, 1, "", ""))
    assert any("expected 2 characters, found 1" in line for line in found_in_archives())
    flip(path, path.read_bytes().index(bytes(range(256))))
    assert any("expected a whole zip archive" in line for line in found_in_archives())


# --- tools/seal_results.py ---


def test_only_files_unchanged_since_their_commit_are_sealed(kept: Path) -> None:
    tool = [sys.executable, Path(__file__).parents[2] / "tools/seal_results.py", "."]
    for path in (RECORD, CURVE):
        run = json.loads(path.with_suffix(".run.json").read_text())
        del run["sha256"], run["run_digest"]
        path.with_suffix(".run.json").write_text(cells.run_text(run))
    new_repository(kept)
    CURVE.write_text(CURVE.read_text().replace("0.", "1.", 1))
    done = subprocess.run(tool, capture_output=True, text=True, check=True)
    run_file = RECORD.with_suffix(".run.json")
    assert f"sealed: {run_file}\n" in done.stdout
    assert f"left: {CURVE.with_suffix('.run.json')}; Git does not have" in done.stdout
    assert cells.read_run(RECORD)["sha256"] == hashlib.sha256(RECORD.read_bytes()).hexdigest()
    assert "sha256" not in cells.read_run(CURVE)
    assert git("add", "results").returncode == git("commit", "--quiet", "-m", "Seal").returncode == 0
    flip(RECORD, 100)
    assert any(line.startswith(f"{RECORD}: ") and line.endswith(f"; fix: git checkout -- {RECORD}") for line in found())


WRONG_FIELDS: dict[str, tuple[dict[str, object], str]] = {
    "another size": ({"size": 1}, "expected size: "),
    "another checkpoint": (
        {"path": "seed-1.safetensors"},
        "path: seed-0.safetensors, found seed-1.safetensors",
    ),
    "a folder below": (
        {"path": "x/seed-0.safetensors"},
        "path: seed-0.safetensors, found x/seed-0.safetensors",
    ),
    "another kind of digest": ({"hash": "sha1"}, "hash is 'sha1', expected md5"),
    "executable": ({"isexec": True}, "expected isexec: False, found True"),
    "a number of files": ({"nfiles": 3}, "nfiles is given"),
}


@pytest.mark.parametrize("wrong", WRONG_FIELDS)
def test_every_field_of_a_dvc_file_is_compared_and_no_advice_replaces_a_checkpoint(kept: Path, wrong: str) -> None:
    path, (change, expected) = Path(f"{MODEL}.dvc"), WRONG_FIELDS[wrong]
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["outs"][0] |= change
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    (MODEL.parent / "x").mkdir()
    for other in (MODEL.with_name("seed-1.safetensors"), MODEL.parent / "x" / MODEL.name):
        other.write_bytes(b"a checkpoint that is in order")
    lines = [line for line in found() if line.startswith(f"{path}: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert not any("dvc " in line.partition("fix: ")[2] for line in lines)


def test_a_dvc_file_that_tracks_elsewhere_is_refused(kept: Path) -> None:
    path = Path(f"{MODEL}.dvc")
    path.write_text(path.read_text(encoding="utf-8") + "wdir: ../maml\n", encoding="utf-8")
    assert any(line.startswith(f"{path}: not a valid .dvc file (wdir is '../maml'") for line in found())


def test_a_checkpoint_that_a_record_names_is_not_to_be_replaced(kept: Path) -> None:
    """Its .dvc file is what is wrong, so the advice is to write that anew."""
    path = Path(f"{MODEL}.dvc")
    path.write_text(path.read_text(encoding="utf-8").replace("md5: ", "md5: " + "a" * 32 + " #", 1), encoding="utf-8")
    (line,) = [line for line in found() if line.startswith(f"{MODEL}: expected MD5")]
    assert line.endswith(f"fix: dvc commit --force {path}")
    MODEL.write_bytes(MODEL.read_bytes() + b" ")
    path.write_text(path.read_text(encoding="utf-8").replace("path: seed-0", "path: seed-1"), encoding="utf-8")
    assert not any(f"dvc pull --force {path}" in line for line in found())
