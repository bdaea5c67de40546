"""The page is assembled from demo/ and a published checkpoint, or refused in one line. No browser."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.upkeep import demo
from tests.demo import assembled

SOURCES = sorted((assembled.ROOT / "demo").iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return assembled.project_with_checkpoint(tmp_path / "project")


@pytest.fixture
def wanted(path: Path, tmp_path: Path) -> demo.Demo:
    return assembled.wanted(tmp_path / "project", tmp_path / "site/demo")


def constant(text: str) -> object:
    return json.loads(re.search(r"= (.*);\n$", text).group(1))


def test_everything_the_page_loads_is_assembled(wanted: demo.Demo) -> None:
    demo.assemble(wanted)
    page = (wanted.site / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'(?:src|href)="((?!https?:)[^"#]+)"', page)
    assert len(loaded) == len(set(loaded)) > 8
    assert {path.name for path in wanted.site.iterdir()} == {*loaded, "index.html"}


def test_the_weights_are_those_of_the_checkpoint_and_smaller_than_a_megabyte(wanted: demo.Demo, path: Path) -> None:
    demo.assemble(wanted)
    text = (wanted.site / "weights.js").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    found = constant(text)
    planes = zlib.decompress(base64.b85decode(found.pop("values")))
    assert len(planes) == 2 * 4 * 112_965
    first = path.read_bytes()[8 + int.from_bytes(path.read_bytes()[:8], "little") :][:4]  # of the first kernel
    assert bytes(planes[byte * 2 * 112_965] for byte in range(4)) == first
    assert found.pop("digest").startswith("98318791fa094cb1")
    measured = found.pop("measured")
    assert {mode: entry["tasks"] for mode, entry in measured.items()} == {"inductive": 10_000, "transductive": 10_000}
    assert 0.95 < measured["inductive"]["accuracy"] < measured["transductive"]["accuracy"] < 0.98
    along = {(row["mode"], row["step"]): row["accuracy"] for row in found.pop("along")}
    assert along["inductive", 0] < 0.25 < 0.9 < along["inductive", 1]
    expected = {"innerSteps": 50, "learningRate": 0.001, "seed": 0, "steps": 2_500_000, "way": 5, "trainedSteps": 5}
    assert found == {**expected, "training": "reptile/omniglot-5way"}


def test_accuracies_of_another_checkpoint_are_left_out(wanted: demo.Demo, tmp_path: Path) -> None:
    for cell in (tmp_path / "project/results/cells" / assembled.EVALUATION).glob("*/seed-0.*"):
        cell.unlink()
    for curve in (tmp_path / "project/results/curves/adaptation" / assembled.EVALUATION).glob("seed-0.run.json"):
        curve.unlink()
    found = demo.checkpoint(wanted)
    assert (found["measured"], found["along"]) == ({}, [])


def test_the_same_page_has_the_same_bytes(wanted: demo.Demo) -> None:
    demo.assemble(wanted)
    first = {path.name: path.read_bytes() for path in wanted.site.iterdir()}
    demo.assemble(wanted)
    assert {path.name: path.read_bytes() for path in wanted.site.iterdir()} == first


def test_a_missing_checkpoint_is_refused_with_how_to_get_it(wanted: demo.Demo, path: Path) -> None:
    path.unlink()
    with pytest.raises(UserError, match=r"seed-0\.safetensors: no such checkpoint.*dvc pull"):
        demo.assemble(wanted)
    assert not wanted.site.exists()


def test_a_checkpoint_that_is_not_the_published_one_is_refused(wanted: demo.Demo, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="not the published checkpoint; get it back: dvc pull"):
        demo.assemble(wanted)


@pytest.mark.parametrize("evaluation", ["maml/omniglot-5way/1shot", "reptile/mini-imagenet-5way/1shot"])
def test_another_network_or_optimiser_is_refused(wanted: demo.Demo, tmp_path: Path, evaluation: str) -> None:
    other = assembled.wanted(tmp_path / "project", wanted.site, evaluation)
    with pytest.raises(UserError, match="computes network omniglot with Adam and beta1 = 0 only"):
        demo.assemble(other)


def test_momentum_which_the_page_does_not_compute_is_refused(wanted: demo.Demo) -> None:
    name = "reptile/omniglot-5way"
    changed = dataclasses.replace(wanted.project.trainings[name], inner_beta1=0.9)
    project = dataclasses.replace(wanted.project, trainings={**wanted.project.trainings, name: changed})
    with pytest.raises(UserError, match="with Adam and beta1 = 0 only"):
        demo.assemble(dataclasses.replace(wanted, project=project))


def test_scripts_are_short_and_load_nothing() -> None:
    assert {path.suffix for path in SOURCES} == {".html", ".css", ".js"}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300, path
        assert max(map(len, text.splitlines())) <= 180, path
        assert not re.search(r"fetch\(|XMLHttpRequest|import |@import|url\(|(src|srcset)=\"https?:", text), path


def test_functions_of_scripts_are_short() -> None:
    """A function begins with a line that ends in `{`, and ends with a `}` of the same indentation."""
    for path in (path for path in SOURCES if path.suffix == ".js"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for first, line in enumerate(lines):
            if not re.search(r"^ {2,}(async )?(function )?\w+\(.*\) \{$", line) or re.search(
                r"^ *(if|for|while) ", line
            ):
                continue
            indent = re.match(" *", line).group()
            length = next(i for i, end in enumerate(lines[first:]) if end == indent + "}")
            assert length < 60, f"{path}: {line.strip()}"
