"""Every recipe of docs/extend.md works as it is printed: the blocks are taken from the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder.__main__ import main
from tests.cli.test_try import put_images
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, write_params

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
CPU = ["--seed", "0", "--device", "cpu"]
PLACE = re.compile(r"# (?P<file>\S+), (?P<where>before|after) `(?P<text>.+)`\n")


def blocks(section: str, *languages: str) -> list[str]:
    """List the fenced blocks of a section that are in one of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


def merged(values: dict[str, Any], block: str) -> dict[str, Any]:
    """Add the entries of a block to the sections of a params.yaml."""
    added = yaml.safe_load(block)
    return values | {section: {**values[section], **entries} for section, entries in added.items()}


def edited(section: str, folder: Path) -> tuple[Path, int, set[str]]:
    """Copy the package and put the blocks of a section where they say; return its folder, their lines, their files."""
    source, lines, files = folder / "src", 0, set()
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for block in blocks(section, "python", "text"):
        place = PLACE.match(block)
        assert place, block
        path, content = folder / place["file"], block[place.end() :]
        code = path.read_text(encoding="utf-8")
        begins = [found.start() for found in re.finditer(re.escape(place["text"]), code)]
        assert len(begins) == 1, f"{place['text']} is {len(begins)} times in {path}"
        lines += len([line for line in content.splitlines() if line.strip()])
        files.add(place["file"])
        at = begins[0]
        if place["where"] == "after":
            at += len(place["text"])
            content = content.rstrip("\n") if place["text"].endswith(("[", " ")) else "\n" + content.rstrip("\n")
        path.write_text(code[:at] + content + code[at:], encoding="utf-8")
    return source, lines, files


def run(source: Path, root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "firstorder", *arguments]
    done = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_ones_own_images_in_a_params_yaml(tiny_project: Path) -> None:
    (block,) = blocks("Your own images, in a params.yaml", "yaml")
    write_params(tiny_project, merged(TINY_PARAMS, block))
    put_images(tiny_project / "PATH", classes=12, images=4, side=30)
    (commands,) = [text for text in blocks("Your own images, in a params.yaml", "") if "firstorder data" in text]
    for command in commands.splitlines():
        _, verb, *arguments = command.split()
        assert main([verb, *arguments, *(["--device", "cpu"] if verb != "data" else [])]) == 0, command
    assert main(["verify"]) == 0


def test_try_takes_the_options_that_the_page_names() -> None:
    (block, *_) = blocks("Your own images, in one command", "")
    command = block.splitlines()[0].replace("[", "").replace("]", "").split()
    from firstorder.cli import parser

    parsed = parser().parse_args(command[1:])
    assert (parsed.folder, parsed.way, parsed.shot, parsed.minutes) == ("FOLDER", 5, 1, 5.0)


def test_another_value_for_exploring(tiny_project: Path) -> None:
    (block,) = blocks("Another value, for exploring", "")
    for command in block.splitlines():
        assert main([*command.split()[1:], "--device", "cpu"]) == 0, command
    (made,) = (tiny_project / f"explored/{TRAINING}").iterdir()
    assert made.name == "curve.every=500,inner_learning_rate=0.002"
    assert len(list(made.glob("results/cells/**/seed-0.json"))) == 2


def test_a_network_of_ones_own(tiny_project: Path, tmp_path: Path) -> None:
    source, lines, files = edited("A network of your own", tmp_path / "copy")
    assert (lines, len(files)) == (2, 2)
    values = edit(TINY_PARAMS, (("trainings", TRAINING, "network"), "narrow"))
    write_params(tiny_project, values)
    run(source, tiny_project, "train", TRAINING, *CPU)
    run(source, tiny_project, "plan")


def test_an_algorithm_of_ones_own_is_about_ten_lines_in_two_files(tiny_project: Path, tmp_path: Path) -> None:
    source, lines, files = edited("An algorithm of your own", tmp_path / "copy")
    assert (lines, len(files)) == (10, 2)
    name = f"median_{TRAINING}"
    made = TINY_PARAMS["trainings"][TRAINING] | {"algorithm": "median_reptile"}
    shot = TINY_PARAMS["evaluations"][EVALUATION] | {"training": name}
    write_params(tiny_project, TINY_PARAMS | {"trainings": {name: made}, "evaluations": {f"{name}/1shot": shot}})
    run(source, tiny_project, "train", name, *CPU)
    run(source, tiny_project, "evaluate", f"{name}/1shot", *CPU)
    run(source, tiny_project, "show")


def test_an_algorithm_of_ones_own_is_tried_on_glyphs(tmp_path: Path) -> None:
    """The page's entry fits where it says, and its commands name the same training."""
    source, _, _ = edited("An algorithm of your own", tmp_path / "copy")
    (entry,), (commands,) = (blocks("An algorithm of your own", language) for language in ("yaml", ""))
    text = (ROOT / "quick/params.yaml").read_text(encoding="utf-8")
    above = "  untrained/glyphs-5way:"
    assert text.count(above) == 1
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/params.yaml").write_text(text.replace(above, entry + above), encoding="utf-8")
    run(source, tmp_path, "plan", "--params", "quick/params.yaml")
    name = entry.split(":")[0].strip()
    assert [line.split()[1:3] for line in commands.splitlines()] == [["pack", "glyphs"], ["train", name]]


def test_a_cell_and_a_table_of_ones_own(computed_project: Path) -> None:
    (cell,), (table,) = blocks("A cell of your own", "yaml"), blocks("A table of your own", "yaml")
    values = merged(merged(TINY_PARAMS, cell), table)
    values = edit(values, (("evaluations", f"{TRAINING}/3shot", "tasks"), 8))
    write_params(computed_project, values)
    assert main(["evaluate", f"{TRAINING}/3shot", *CPU]) == 0
    published = str(ROOT / "paper/published.csv")
    assert main(["table", "shots", "--published", published]) == 0
    text = (computed_project / "results/tables/shots.md").read_text(encoding="utf-8")
    assert "Reptile, inductive" in text
    assert "±" in text
    assert main(["stale"]) == 0
    caption = computed_project / "captions/shots.rst"
    caption.parent.mkdir()
    caption.write_text("Accuracy against ``shot``.\n", encoding="utf-8")
    assert main(["claims", "--published", published]) == 0
    assert main(["page", "--captions", str(ROOT / "workflow/report")]) == 0
    page = (computed_project / "results/report.html").read_text(encoding="utf-8")
    assert "Accuracy against <code>shot</code>." in page


def test_the_library_as_the_page_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks("As a library", "python")
    monkeypatch.chdir(ROOT)
    exec(block, {})


def test_snakemake_packs_trains_and_evaluates_ones_own_images(tiny_project: Path) -> None:
    """The images lie in data/raw/<data set>; what is planned is the whole way to a cell."""
    (block,) = blocks("Your own images, in a params.yaml", "yaml")
    write_params(tiny_project, merged(TINY_PARAMS, block))
    put_images(tiny_project / "data/raw/my-images", classes=12, images=4, side=30)
    cell = "results/cells/reptile/my-images-5way/1shot/inductive/seed-0.json"
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--dry-run",
        "--quiet",
        "host",
    ]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--cores", "1", cell]
    done = subprocess.run(command, cwd=tiny_project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    planned = set(re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE))
    assert planned == {"pack_folder", "train", "evaluate"}


def test_every_section_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in SECTIONS if f'"{name}"' not in tested] == []
