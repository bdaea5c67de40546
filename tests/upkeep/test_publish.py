"""`firstorder publish` with the real DVC: it tracks and pushes in one step, refuses unsafe states, stages nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from firstorder import settings
from firstorder.__main__ import main
from firstorder.data import packs
from firstorder.records import freshness
from firstorder.upkeep import dvc, publish
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, write_params
from tests.upkeep.test_dvc import git, new_repository, run

MODEL = Path(settings.MODEL.format(training=TRAINING, seed=0))
RECORD = Path(settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0))


@pytest.fixture
def repository(computed_project: Path) -> Path:
    """Return a computed project in a repository of Git and DVC; nothing is tracked by DVC yet."""
    new_repository(computed_project)
    return computed_project


@pytest.fixture
def no_dvc(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Replace the call of DVC; return the list of calls."""
    calls: list[Sequence[str]] = []
    monkeypatch.setattr(publish, "_dvc", lambda folder, *arguments: calls.append(arguments))
    return calls


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Publish, assert that it is refused and writes nothing, and return the message."""
    before = files_below(Path())
    capsys.readouterr()
    assert main(["publish", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert files_below(Path()) == before
    return line.removeprefix("firstorder: ")


def test_one_step_tracks_and_pushes_and_prints_the_git_command(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = MODEL.read_bytes()
    assert main(["publish"]) == 0
    (output,) = dvc.read_dvc_file(Path(f"{MODEL}.dvc"))
    kept = dvc.object_path(Path("published"), output.md5)
    assert kept.read_bytes() == content
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [
        f"published to published: {MODEL} ({len(content):,} bytes)",
        f"git add results {MODEL}.dvc {kept}",
    ]
    assert git("diff", "--cached", "--name-only").stdout == ""  # staged nothing
    # The printed command commits all that a clone needs.
    assert run("git", *printed[-1].split()[1:]).returncode == 0
    assert git("commit", "--quiet", "-m", "Publish").returncode == 0
    assert git("clone", "--quiet", ".", "../clone").returncode == 0
    pulled = subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet"], cwd="../clone", capture_output=True)
    assert pulled.returncode == 0
    assert Path("../clone", MODEL).read_bytes() == content
    # Publishing again changes nothing and adds no object.
    assert main(["publish"]) == 0
    assert [path for path, _ in dvc.objects(Path("published"))] == [kept]


def test_a_checkpoint_trained_again_replaces_the_published_one(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish"]) == 0
    old = next(dvc.objects(Path("published")))[0]
    values = edit(TINY_PARAMS, (("trainings", TRAINING, "outer_steps"), 3))
    write_params(Path(), values)
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        assert main([verb, name, "--seed", "0", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["verify"]) == 1  # the .dvc file still names the old one
    assert f"dvc commit --force {MODEL}.dvc" in capsys.readouterr().out
    assert main(["publish"]) == 0
    assert f"git rm {old}" in capsys.readouterr().out
    assert main(["verify"]) == 0


def test_a_checkpoint_in_the_place_of_another_seeds_is_refused(
    repository: Path, no_dvc: list[Sequence[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(Path(), edit(TINY_PARAMS, (("seeds",), [0, 1])))
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        assert main([verb, name, "--seed", "1", "--device", "cpu"]) == 0
    other = Path(settings.MODEL.format(training=TRAINING, seed=1))
    other.write_bytes(MODEL.read_bytes())
    assert str(other) in refused(capsys)
    assert not no_dvc


def test_the_printed_git_command_is_quoted(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that a shell would read as code or as two paths."""
    lines = publish._summary(Path("a b; touch x"), repository, [], dvc.Remote("published", "published", None))
    assert lines == ["git add 'a b; touch x/results'"]


@pytest.mark.usefixtures("no_dvc")
def test_what_is_not_evaluated_is_left_out(
    repository: Path, no_dvc: list[Sequence[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    RECORD.unlink()
    RECORD.with_suffix(".run.json").unlink()
    assert main(["publish"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"left out: {MODEL} (no {RECORD})",
        "nothing to publish: . has no checkpoint whose evaluations are all recorded",
    ]
    assert no_dvc == []


def test_a_stale_record_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(Path(), edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 13)))
    message = refused(capsys)
    assert message.startswith(f"not published, {EVALUATION}/inductive seed 0 is stale, evaluation.tasks: 12 -> 13")
    assert f"make cell CELL={EVALUATION}/inductive SEED=0" in message


@pytest.mark.parametrize("path", [MODEL, Path("data/omniglot.npz"), RECORD.with_suffix(".run.json")])
def test_what_does_not_verify_is_refused(repository: Path, capsys: pytest.CaptureFixture[str], path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = refused(capsys)
    assert str(path) in message or (path.suffix == ".json" and freshness.UNSEALED in message)


@pytest.mark.parametrize("name", ["mini-imagenet.npz", "innocent.npz"])
def test_a_pack_of_imagenet_is_refused_whatever_it_is_called(
    repository: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    images = np.zeros((3, 2, 3, 84, 84), np.uint8)
    path = Path("data", name)
    packs.write_pack(path, packs.Pack(images, ("test/n01532829", "train/n01558993", "val/n01704323"), 255))
    output = {"md5": dvc.hash_of(path, "md5"), "size": path.stat().st_size, "path": name}
    Path(f"{path}.dvc").write_text(yaml.safe_dump({"outs": [output]}))
    message = refused(capsys)
    assert f"{path}.dvc: {name} would be pushed and is made of ImageNet's images" in message
    assert "push: false" in message


def test_images_in_a_file_named_like_a_checkpoint_are_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("models/images.safetensors")
    header = {"images": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "__metadata__": {"about": "{}"}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    output = {"md5": dvc.hash_of(path, "md5"), "size": path.stat().st_size, "path": path.name}
    Path(f"{path}.dvc").write_text(yaml.safe_dump({"outs": [output]}))
    assert "would be pushed and is no checkpoint" in refused(capsys)


def test_a_set_too_large_for_a_clone_is_refused_and_names_the_way_out(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "LARGEST_PUBLISHED_BYTES", 10_000)
    message = refused(capsys)
    assert f"would have {MODEL.stat().st_size:,} bytes in 1 checkpoint, expected at most 10,000" in message
    assert "--remote" in message


def test_a_remote_outside_the_repository_takes_any_size(
    repository: Path, no_dvc: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(publish, "LARGEST_PUBLISHED_BYTES", 10_000)
    monkeypatch.setattr(publish, "_summary", lambda *_: [])
    (tmp_path / "large").mkdir()
    with Path(".dvc/config").open("a") as file:
        file.write(f"['remote \"large\"']\n    url = {tmp_path / 'large'}\n")
    assert main(["publish", "--remote", "large"]) == 0
    assert no_dvc == [("add", str(MODEL)), ("push", "--remote", "large", f"{MODEL}.dvc")]


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("", (), "no default remote; add one: dvc remote add --default NAME URL"),
        ("[core]\n    remote = gone\n", (), "no remote 'gone', known are: none; add it: dvc remote add gone URL"),
        (
            "['remote \"far\"']\n    url = ../far\n",
            ("--remote", "far"),
            "far: the folder of remote 'far' does not exist",
        ),
    ],
)
def test_a_missing_remote_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str], config: str, options: Sequence[str], words: str
) -> None:
    Path(".dvc/config").write_text(config)
    assert words in refused(capsys, *options)


def test_without_dvc_it_is_refused(computed_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "make one: dvc init" in refused(capsys)


def test_an_unknown_training_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--trainings", "maml/x").startswith("unknown training 'maml/x'")


def test_a_push_that_fails_is_reported_in_one_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(".dvc/config").open("a") as file:
        file.write("['remote \"nowhere\"']\n    url = s3://there/is/no/such\n")
    capsys.readouterr()
    assert main(["publish", "--remote", "nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("firstorder: dvc push failed: ")
    assert line.endswith("; correct that and publish again, nothing is lost")
    assert main(["publish"]) == 0  # and again, to a remote that is there
