"""`firstorder try`: one command from images to a page; interrupted it goes on, done it says what is there."""

from __future__ import annotations

import html.parser
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firstorder.__main__ import main
from firstorder.cli import attempt, attempt_settings, output
from firstorder.cli.attempt_settings import Look, Speed, Wish
from firstorder.errors import UserError
from firstorder.report.text import attempt_page
from firstorder.settings import checks
from tests.conftest import files_below

OPTIONS = ["--way", "2", "--minutes", "0.001", "--size", "16", "--device", "cpu"]


def put_images(root: Path, classes: int = 6, images: int = 3, side: int = 16) -> Path:
    """Write class folders with a pattern each, of which every image has some other pixels."""
    generator = np.random.default_rng(3)
    for number in range(classes):
        pattern = generator.random((side, side)) < 0.5
        folder = root / f"class{number}"
        folder.mkdir(parents=True)
        for image in range(images):
            pixels = (pattern ^ (generator.random((side, side)) < 0.05)).astype(np.uint8) * 255
            Image.fromarray(pixels).save(folder / f"{image}.png")
    return root


@pytest.fixture(scope="module")
def quickly() -> Any:
    """Measure the speed for a moment only, and evaluate few tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "MEASURED_SECONDS", 0.05)
        patch.setattr(attempt_settings, "TASKS", (12, 12))
        yield


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, quickly: None) -> Path:
    """Return a folder with images and what one call made of them; tests only read it or call again."""
    root = tmp_path_factory.mktemp("try")
    put_images(root / "my images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["try", "my images", *OPTIONS]) == 0
    return root


class Page(html.parser.HTMLParser):
    """Collects the tags of a page, and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_command_makes_a_project_with_records_and_a_page(tried: Path) -> None:
    root = tried / "tried/my-images"
    project = checks.load(root / "params.yaml")
    assert list(project.trainings) == ["reptile/my-images-2way", "untrained/my-images-2way"]
    found = attempt_page.results(root, project)
    assert [one.mode for one in found] == ["inductive", "transductive"]
    assert all(one.chance == 0.5 for one in found)
    text = (root / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    for one in found:
        assert f"{100 * one.trained:.2f} ± {100 * one.trained_half_width:.2f}" in text
    assert {"svg", "polyline", "img", "table"} < {tag for tag, _ in page.tags}
    assert all(values.get("alt") for tag, values in page.tags if tag == "img")


def test_the_page_needs_no_second_file_and_no_network(tried: Path) -> None:
    text = (tried / "tried/my-images/index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:)|https?://|<script|url\(", text)


def test_all_other_verbs_work_in_its_folder(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tried)
    for verb in ("show", "stale", "plan", "verify"):
        assert main([verb, "--params", "tried/my-images/params.yaml"]) == 0, verb
    assert "no mismatch" in capsys.readouterr().out


def test_a_second_call_says_what_is_there_and_computes_nothing(
    tried: Path, quickly: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tried)
    before = files_below(tried / "tried/my-images/results")
    assert main(["try", "my images", *OPTIONS]) == 0
    said = capsys.readouterr()
    assert said.err == "firstorder: all is done in tried/my-images\n"
    assert "my-images, 2-way 1-shot: accuracy in %" in said.out
    assert "page: tried/my-images/index.html" in said.out
    assert "train longer: firstorder try 'my images' --minutes 60 --out tried/my-images-longer" in said.out
    assert files_below(tried / "tried/my-images/results") == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--shot", "2"], "tried/my-images: was begun with shot 1, now it is 2; name another folder with --out"),
        (["--minutes", "3"], "tried/my-images: was begun with minutes 0.001, now it is 3.0"),
        (["--out", "my images"], "my images: is there already and not of `firstorder try`"),
        (["--way", "1"], "--way: expected at least 2 classes per task"),
        (["--out", "x", "--way", "4"], "has 6 classes; 4-way tasks need 8, 4 to train on and 4 others"),
        (["--out", "x", "--shot", "3"], "class class0 has 3 images, a task of 3 shots needs 4 of every class"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    more: list[str], why: str, tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tried)
    assert main(["try", "my images", *OPTIONS, *more]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_no_folder_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", ""]) == 2
    assert "which images? Name their folder" in capsys.readouterr().err


def test_ctrl_c_saves_the_state_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """A signal while Reptile trains: its state stays, and the same command trains the rest and makes the page."""
    put_images(tmp_path / "set")
    command = [sys.executable, "-m", "firstorder", "try", "set", *OPTIONS, "--out", "found"]
    command[command.index("0.001")] = "0.1"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "found/params.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "the same command goes on" in error
    assert not (tmp_path / "found/index.html").exists()
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "computing in found" in again.stderr
    assert (tmp_path / "found/index.html").exists()


# --- What is chosen ---


def look(classes: int = 20, images: int = 12, **others: Any) -> Look:
    return Look(
        **{"counts": {f"c{n:02}": images for n in range(classes)}, "by_folders": False, "grey": True, "side": 40}
        | others
    )


def test_grey_images_and_colours_get_the_sizes_of_the_networks_they_are_trained_with() -> None:
    wish = Wish(5, 1, 5.0)
    grey = attempt_settings.dataset_of(look(), wish, Path("x"))
    assert (grey.size, grey.channels, grey.meta_train_classes) == (28, 1, 15)
    colours = attempt_settings.dataset_of(look(grey=False), wish, Path("x"))
    assert (colours.size, colours.channels) == (48, 3)
    made = attempt_settings.training_of(colours, "x", look(grey=False), wish)
    assert (made["network"], made["image"]) == ("mini_imagenet", {"size": 48, "channels": 3, "filters": 32})
    assert attempt_settings.dataset_of(look(), Wish(5, 1, 5.0, size=64, channels=3), Path("x")).size == 64


def test_folders_named_like_splits_split() -> None:
    counts = {f"{pool}/c{n}": 9 for pool in ("train", "test") for n in range(3)}
    chosen = attempt_settings.dataset_of(look(counts=counts, by_folders=True), Wish(3, 1, 5.0), Path("x"))
    assert (chosen.split, chosen.meta_train_classes) == ("folders", None)
    with pytest.raises(UserError, match="train has 3 classes, 4-way tasks need at least 4"):
        attempt_settings.dataset_of(look(counts=counts, by_folders=True), Wish(4, 1, 5.0), Path("x"))


def test_the_minutes_are_shared_among_training_curve_and_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 minutes: 165 s of outer steps at 0.1 s, 45 s for 40 measurements and 90 s for 2 evaluations at 0.05 s."""
    monkeypatch.setattr(attempt_settings, "TASKS", (50, 1000))
    found = attempt_settings.lengths(Speed(outer_step=0.1, task=0.05), Wish(5, 1, 5.0))
    assert found == {"outer_steps": 1600, "every": 80, "curve_tasks": 22, "tasks": 900}
    least = attempt_settings.lengths(Speed(outer_step=10, task=10), Wish(5, 1, 0.01))
    assert least["outer_steps"] == 10


@pytest.mark.parametrize(
    ("path", "name"),
    [("My Set!", "My-Set"), ("a/b.tar.gz", "b"), ("x.ZIP", "x"), ("---", "images"), ("日本", "images")],
)
def test_the_name_is_one_that_params_yaml_allows(path: str, name: str, tmp_path: Path) -> None:
    assert attempt_settings.name_of(tmp_path / path) == name


def test_the_verdict_follows_from_the_interval_of_the_difference() -> None:
    def result(trained: float, half_width: float) -> attempt_page.Result:
        return attempt_page.Result(mode="inductive", trained=trained, trained_half_width=half_width, untrained=0.5,
                                   untrained_half_width=half_width, chance=0.2)  # fmt: skip

    assert result(0.6, 0.03).verdict == "Reptile is better"
    assert result(0.6, 0.08).verdict == "no difference is shown"
    assert result(0.4, 0.03).verdict == "random initialisation is better"


def test_a_damaged_image_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_images(tmp_path / "set")
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "PNG")
    (tmp_path / "set/class0/0.png").write_bytes(file.getvalue()[:-20])
    monkeypatch.chdir(tmp_path)
    assert main(["try", "set", *OPTIONS]) == 2
    assert "set: class0/0.png: " in capsys.readouterr().err
    assert not (tmp_path / "tried/set/params.yaml").exists()


def test_the_command_that_draws_a_report_works_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(attempt.__file__).parents[3]
    monkeypatch.delenv(output.SHELL_FOLDER, raising=False)
    monkeypatch.chdir(clone)
    assert attempt._report_command(Path("tried/x")) == "make report DIR=tried/x"
    monkeypatch.setenv(output.SHELL_FOLDER, str(tmp_path))  # as after `make -C`
    assert attempt._report_command(Path("tried/x")) == f"make -C {clone} report DIR={clone}/tried/x"
    monkeypatch.delenv(output.SHELL_FOLDER)
    monkeypatch.chdir(tmp_path)
    assert attempt._report_command(Path("my x")) == f"make -C {clone} report DIR='{tmp_path}/my x'"
    monkeypatch.setattr(attempt, "__file__", str(tmp_path / "a/b/site-packages/attempt.py"))
    assert attempt._report_command(Path("x")) == f"in a clone of firstorder: make report DIR={tmp_path}/x"
