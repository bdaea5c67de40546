"""The site: every number leads to what is recorded about it, and nothing is loaded from elsewhere."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.report.benchmark import performance
from firstorder.report.figures import figures, themes
from firstorder.report.read import accuracies, csv_frames, staleness
from firstorder.report.site import alt_texts, charts, drawing, front, pictures, runtimes, site, writer
from firstorder.report.site.cells import clock
from firstorder.report.site.folders import Folder
from firstorder.report.site.models import PublishedFile
from firstorder.report.text.formatting import STALE_MARK
from firstorder.settings import Project, checks
from tests.report.test_page import CAPTIONS, HOSTILE, Content, parse, store_all, write_all
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import TRAINING, changed_params, make_project, store_curve, store_record

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "tests/bench_example.json"
CHECKPOINT = f"models/{TRAINING}/seed-0.safetensors"
STUDY = "studies/one/part"
CELL = "cells/reptile/omniglot-5way/1shot/inductive.html"


def request(*roots: Path) -> site.Request:
    return site.Request(
        projects={root: checks.load(root / "params.yaml") for root in roots},
        published=PUBLISHED,
        captions=CAPTIONS,
        published_files={CHECKPOINT: PublishedFile(md5="9" * 32, size=907168)},
        benchmarks=next(iter(roots)) / "results/bench",
    )


def store(root: Path) -> Project:
    made = store_all(root)
    write_all(root, made)
    accuracies.write(root, made)
    (root / "results/bench").mkdir()
    shutil.copy(BENCHMARK, root / "results/bench/example.json")
    store_curve(root, 0, {500: 0.8, 1000: 0.9})
    figures.write(root, made, "learning-curves", PUBLISHED)
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site of made-up records, with a study; for tests that only read it."""
    root = tmp_path_factory.mktemp("project")
    store(root)
    shutil.copytree(root, root / STUDY)
    out = root / "site"
    site.write(request(root, root / STUDY), out)
    return out


def picture(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


def pages(folder: Path) -> dict[str, Content]:
    return {
        path.relative_to(folder).as_posix(): parse(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
    }


def check_links(folder: Path) -> int:
    """Assert that each link and picture leads to a file, and each anchor to an id; return their number."""
    found = pages(folder)
    ids = {name: {attributes.get("id") for _, attributes in page.attributes} for name, page in found.items()}
    count = 0
    for name, page in found.items():
        for _, attributes in page.attributes:
            for key in ("href", "src", "srcset"):
                target = attributes.get(key) or ""
                if not target or target.startswith(("https://arxiv.org/", "data:,")):
                    continue
                path, _, anchor = target.partition("#")
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
                assert not path.startswith(".."), (name, target)
                assert (folder / path).is_file(), (name, target)
                assert not anchor or anchor in ids[path], (name, target)
                count += 1
    return count


def test_every_link_leads_to_a_file_of_the_site(written: Path) -> None:
    assert check_links(written) > 100


def test_no_page_repeats_a_shared_colour(written: Path) -> None:
    sheets = [
        path for path in (ROOT / "src").rglob("templates/*") if path.suffix == ".css" or path.name == "attempt.html.j2"
    ]
    declared = [
        name
        for path in sheets
        for name in re.findall(r"--(text|faint|link|line|back):", path.read_text(encoding="utf-8"))
    ]
    assert sorted(declared) == sorted(["text", "faint", "link", "line", "back"] * 2)  # light and dark
    for page in pages(written).values():
        assert [posixpath.basename(str(one["href"])) for one in page.of("link")][1:] == ["colours.css", "site.css"]


def test_the_pages_load_nothing_but_their_own_style_script_and_pictures(written: Path) -> None:
    for page in pages(written).values():
        loaded = [one[key] for _, one in page.attributes for key in ("src", "srcset") if key in one]
        loaded += [attributes.get("href") for attributes in page.of("link")]
        assert not [address for address in loaded if address and ":" in address.replace("data:,", "")]


def test_a_site_written_twice_has_the_same_bytes(written: Path, tmp_path: Path) -> None:
    root = written.parent
    again = site.write(request(root, root / STUDY), tmp_path / "site")
    for path in again:
        assert path.read_bytes() == (written / path.relative_to(tmp_path / "site")).read_bytes()
    assert len(again) == sum(path.is_file() for path in written.rglob("*"))


def test_each_number_of_a_table_is_a_link_to_its_cell(written: Path) -> None:
    text = (written / "index.html").read_text(encoding="utf-8")
    assert f'<a href="{CELL}"><strong>85.00 ± 63.53</strong>' in text
    assert (written / CELL).is_file()
    assert (written / STUDY / CELL).is_file()


def test_a_page_of_a_cell_tells_all_that_is_recorded(written: Path) -> None:
    text = (written / CELL).read_text(encoding="utf-8")
    for expected in (
        "95.39 ± 0.09 %",
        "12 s on a made-up machine (a made-up device), commit 0123456789abcdef",
        "make cell CELL=reptile/omniglot-5way/1shot/inductive SEED=2</code>",
        "0" * 16,
        "training.inner_learning_rate",
        "Learning curve over 1,000 outer steps",
        "Histogram of 200 tasks by right answers out of 5: most often 4 right, in 150 tasks; all right in 50",
    ):
        assert expected in text, expected
    of_study = (written / STUDY / CELL).read_text(encoding="utf-8")
    assert "SEED=0 FORCE=1</code>".replace("SEED=0", "SEED=0 DIR=studies/one/part") in of_study


def test_headline_counts_the_numbers_of_the_paper(written: Path) -> None:
    text = (written / "index.html").read_text(encoding="utf-8")
    assert "1 of 4 published numbers run at reduced length, where they are shown, not judged." in text


def test_headline_at_full_length_says_how_close_ours_is(tmp_path: Path) -> None:
    made = make_project(tmp_path, changed_params(length="full", figures={}, sine=None))
    store_record(tmp_path, made, f"{TRAINING}/1shot", "inductive", {0: [0, 0, 0, 0, 25, 75], 1: [0, 0, 0, 0, 25, 75]})
    write_all(tmp_path, made)
    folder = Folder(tmp_path, "", made, request(tmp_path).paper_of(tmp_path), CAPTIONS)
    # 95 % of the answers are right, the paper has 95.39 %.
    assert folder.headline == (
        "1 of 4 published numbers run at full length, within 0.39 percentage points of the paper."
    )
    assert [group for group, _ in front.verdicts(folder)] == ["hold", "fail"]


def test_a_figure_says_which_of_its_trainings_are_missing_and_what_runs_them(written: Path, tmp_path: Path) -> None:
    assert "trainings run." not in (written / "figures/learning-curves.html").read_text(encoding="utf-8")
    folder = Folder(tmp_path, "studies/one", make_project(tmp_path), request(tmp_path).paper_of(tmp_path), CAPTIONS)
    assert pictures.missing(folder, "learning-curves") == [
        "firstorder train reptile/omniglot-5way --seed 0 1 2 --params=studies/one/params.yaml"
    ]


def test_a_figure_has_a_dark_picture_of_the_same_size_on_a_dark_page(written: Path) -> None:
    text = (written / "figures/learning-curves.html").read_text(encoding="utf-8")
    assert '<source srcset="dark/learning-curves.png" media="(prefers-color-scheme: dark)">' in text
    style = (written / "colours.css").read_text(encoding="utf-8")
    assert f"--back: {themes.DARK.page};" in style  # a figure and the page around it have the same colour
    for name in ("figure-1", "learning-curves", "accuracies"):
        light, dark = (picture(written / path) for path in (f"results/figures/{name}.png", f"figures/dark/{name}.png"))
        assert light.size == dark.size
        assert [image.getpixel((0, 0)) for image in (light, dark)] == [(255,) * 3, (0x17, 0x18, 0x1A)]


def test_a_dark_picture_of_other_numbers_than_the_light_one_is_refused(tmp_path: Path) -> None:
    made = store(tmp_path)
    store_curve(tmp_path, 1, {500: 0.7, 1000: 0.8})
    with pytest.raises(UserError, match=r"learning-curves\.csv: not of the present records; draw the report first"):
        site.write(request(tmp_path), tmp_path / "site")
    figures.write(tmp_path, made, "learning-curves", PUBLISHED)
    site.write(request(tmp_path), tmp_path / "site")


def test_the_demo_stays_when_the_site_is_written_again_and_the_front_page_leads_to_it(tmp_path: Path) -> None:
    """Whichever of the two comes first: no link leads nowhere, and neither removes the other."""
    root, out = tmp_path / "project", tmp_path / "site"
    make_project(root, changed_params(figures={}, sine=None, tables={}))
    write_all(root, checks.load(root / "params.yaml"))
    demo_page = out / "demo/index.html"

    def make_demo() -> None:
        (out / "demo/parts").mkdir(parents=True, exist_ok=True)
        (out / "demo/parts/one.js").write_text("1", encoding="utf-8")
        demo_page.write_text((ROOT / "demo/index.html").read_text(encoding="utf-8"), encoding="utf-8")

    def front_page() -> str:
        return (out / "index.html").read_text(encoding="utf-8")

    site.write(request(root), out)
    assert "<code>make demo</code> adds a page" in front_page()
    assert 'href="demo/index.html"' not in front_page()
    make_demo()
    assert drawing.link_from(out) == out / "index.html"
    linked = front_page()
    assert '<a href="demo/index.html">Draw for it</a>' in linked
    assert "make demo" not in linked
    site.write(request(root), out)
    assert front_page() == linked
    assert (out / "demo/parts/one.js").exists()
    shutil.rmtree(out)
    make_demo()  # first the demo, then the site
    site.write(request(root), out)
    assert front_page() == linked
    shutil.rmtree(out / "demo")
    drawing.link_from(out)
    assert "<code>make demo</code> adds a page" in front_page()


def test_a_folder_named_demo_that_is_none_is_not_kept_quietly(tmp_path: Path) -> None:
    root, out = tmp_path / "project", tmp_path / "site"
    make_project(root, changed_params(figures={}, sine=None, tables={}))
    write_all(root, checks.load(root / "params.yaml"))
    (out / "demo").mkdir(parents=True)
    (out / "demo/index.html").write_text("a page of mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than a site"):
        site.write(request(root), out)
    assert drawing.link_from(out) is None


def test_models_have_digest_size_accuracy_and_command(written: Path) -> None:
    text = (written / "models.html").read_text(encoding="utf-8")
    assert f"<code>.venv/bin/dvc pull {CHECKPOINT}</code>" in text
    assert "9" * 32 in text
    assert "0.91 MB" in text
    assert "1-shot, inductive: 90.00 %" in text
    assert text.count("<code>.venv/bin/dvc pull") == 1  # what is not published is not offered


def test_the_verb_finds_the_published_checkpoints_and_says_what_it_wrote(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = written.parent, tmp_path / "out"
    tracked = root / f"{CHECKPOINT}.dvc"
    tracked.parent.mkdir(parents=True)
    tracked.write_text(
        f"outs:\n- md5: {'ab' * 16}\n  size: 5\n  hash: md5\n  path: seed-0.safetensors\n", encoding="utf-8"
    )
    options = ["--params", str(root / "params.yaml"), "--published", str(PUBLISHED), "--captions", str(CAPTIONS)]
    assert main(["site", *options, "--out", str(out), str(root), str(root / STUDY)]) == 0
    count = len(list(out.rglob("*.html")))
    assert capsys.readouterr().out == f"{out / 'index.html'}: {count} pages from 2 folders of results\n"
    assert "ab" * 16 in (out / "models.html").read_text(encoding="utf-8")


def test_a_stale_record_is_refused_or_marked(tmp_path: Path) -> None:
    made = make_project(tmp_path, changed_params(figures={}, sine=None))
    store_record(tmp_path, made, f"{TRAINING}/1shot", "inductive", {0: [0, 0, 0, 0, 50, 50]})
    record = tmp_path / f"results/cells/{TRAINING}/1shot/inductive/seed-0.run.json"
    record.unlink()  # nothing shows any more that the record was not changed
    with staleness.allowed():
        write_all(tmp_path, made)
        accuracies.write(tmp_path, made)
        site.write(request(tmp_path), tmp_path / "site")
    assert "stale: made with other settings or data than now" in (tmp_path / "site" / CELL).read_text(encoding="utf-8")
    assert STALE_MARK in (tmp_path / "site/index.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="stale"):
        site.write(request(tmp_path), tmp_path / "site")


def test_claims_can_be_filtered_by_verdict_and_origin(written: Path) -> None:
    page = parse((written / "claims.html").read_text(encoding="utf-8"))
    cards = [attributes for attributes in page.of("li") if "data-verdict" in attributes]
    assert cards
    assert {attributes["name"] for attributes in page.of("select")} == {"verdict", "origin"}
    assert page.of("form")[0]["hidden"] is None  # until the script shows it
    assert {attributes["data-origin"] for attributes in cards} <= {"paper", "memory", "ours"}


def test_texts_of_records_and_settings_are_escaped(tmp_path: Path) -> None:
    made = make_project(tmp_path, changed_params(title=HOSTILE, figures={}, sine=None))
    write_all(tmp_path, made)
    site.write(request(tmp_path), tmp_path / "site")
    assert "<script>alert" not in (tmp_path / "site/index.html").read_text(encoding="utf-8")


def test_results_that_are_older_than_the_records_are_refused(tmp_path: Path) -> None:
    made = make_project(tmp_path, changed_params(figures={}, sine=None))
    write_all(tmp_path, made)
    accuracies.write(tmp_path, made)
    store_record(tmp_path, made, f"{TRAINING}/5shot", "inductive", {0: [0, 0, 0, 0, 50, 50]})
    with pytest.raises(UserError, match=r"accuracies\.csv: not of the present records; draw the report first"):
        site.write(request(tmp_path), tmp_path / "site")


def test_pages_that_are_gone_are_removed_but_nothing_of_others(tmp_path: Path) -> None:
    old, made = tmp_path / "site", writer.Pages()
    made.add("models.html", "runtimes.html.j2", folder=_folder(tmp_path), tables=[], machines=[])
    made.add("index.html", "runtimes.html.j2", folder=_folder(tmp_path), tables=[], machines=[])
    made.write(old)
    (old / "left/behind").mkdir(parents=True)
    (old / "left/behind/page.html").write_text("old", encoding="utf-8")
    made.files.pop("models.html")
    made.write(old)
    assert [path.name for path in old.iterdir()] == ["index.html"]
    (old / "index.html").write_text("a page of mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than a site"):
        made.write(old)


def _folder(root: Path) -> Folder:
    return Folder(root, "", make_project(root), request(root).paper_of(root), CAPTIONS)


def test_a_curve_has_an_axis_up_to_100_and_tells_where_it_begins_and_ends() -> None:
    rows = [
        {
            "pool": "meta-test",
            "mode": "inductive",
            "outer_step": step,
            "shot": 1,
            "tasks": 50,
            "seeds": 1,
            "accuracy": accuracy,
            "smoothed": smoothed,
        }
        for step, accuracy, smoothed in ((100, 0.80, 0.80), (200, 0.90, 0.85), (300, 0.94, 0.88))
    ]
    curve = charts.curve(rows, "inductive")
    assert curve is not None
    assert [tick.text for tick in curve.y_ticks] == ["80", "85", "90", "95", "100"]
    assert "from 80.00 to 88.00 %" in curve.alt
    assert charts.curve(rows, "transductive") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.26, "2.3 s"), (12, "12 s"), (150, "2 min"), (13197, "3 h 40 min"), (None, "an unknown time")],
)
def test_times_are_printed_in_the_unit_one_thinks_in(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_runtimes_are_summed_by_machine_and_count_a_result_once(written: Path) -> None:
    root = written.parent
    folders = [
        Folder(path, name, checks.load(path / "params.yaml"), request(root).paper_of(path), CAPTIONS)
        for path, name in ((root, ""), (root / STUDY, STUDY))
    ]
    (table,) = runtimes.by_machine(folders)
    assert table.title == "a made-up machine: a made-up device"
    assert table.rows == (("evaluation of reptile/omniglot-5way/1shot", "main", "not recorded", "12 s, 12 s", "24 s"),)


def test_the_benchmark_is_shown_with_its_numbers_and_what_is_seen(written: Path) -> None:
    text = (written / "runtimes.html").read_text(encoding="utf-8")
    assert "<h3>Example processor, 2 cores</h3>" in text
    # 41 steps a second side by side, of 3.93024 GFLOP each, where 320 GFLOP/s are possible.
    assert "native 50.4 to 50.4 % (most in W1)" in text
    assert "1 being linear: with more outer steps plain 1.00, native 1.00; with more tasks " in text
    assert (
        'data-column="Engine" class="label">native</td><td role="cell" data-column="One process">31 (30 to 32)' in text
    )
    for name in ("example", "example-scaling"):
        light, dark = (picture(written / f"benchmark/{name}{ending}.png") for ending in ("", "-dark"))
        assert light.size == dark.size
        assert dark.getpixel((0, 0)) == (0x17, 0x18, 0x1A)
    frame = csv_frames.read(written / "benchmark/example.csv", performance.RATE_COLUMNS)
    assert frame["rate"].max() == 41 + 1
    assert not (written / STUDY / "benchmark").exists()


def test_without_a_benchmark_the_page_says_so(tmp_path: Path) -> None:
    root = tmp_path / "project"
    make_project(root, changed_params(figures={}, sine=None, tables={}))
    write_all(root, checks.load(root / "params.yaml"))
    site.write(request(root), tmp_path / "site")
    assert "<p>Nothing is measured yet.</p>" in (tmp_path / "site/runtimes.html").read_text(encoding="utf-8")


def test_what_is_seen_in_a_figure_is_told_in_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "results/figures/learning-curves.csv"
    path.parent.mkdir(parents=True)
    path.write_text(
        "training,pool,mode,outer_step,accuracy\n"
        "reptile/omniglot-5way,meta-test,inductive,1,0.5\nreptile/omniglot-5way,meta-test,inductive,2,0.9\nmaml/x,,,,\n",
        encoding="utf-8",
    )
    assert alt_texts.of_figure(tmp_path, "learning-curves", "curves") == (
        "Inductive accuracy on meta-test classes against outer steps: Reptile, Omniglot 5-way from 50.00 to 90.00 %. "
        "1 of 2 trainings are run."
    )
    csv_frames.write(path, csv_frames.read(path, ("training", "pool", "mode", "outer_step", "accuracy")).head(0))
    assert alt_texts.of_figure(tmp_path, "learning-curves", "curves") == alt_texts.NOTHING
