"""The one-file report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.report import claim_tables, figures, page, tables
from firstorder.settings import Project
from tests.synthetic_records import ONE_SHOT, changed_params, make_project, store_record, store_sine
from tests.test_report_published import PUBLISHED

CAPTIONS = Path(__file__).parents[1] / "workflow" / "report"
VOID = {"meta", "img"}


class Balance(HTMLParser):
    """Collects tags, and fails on one that is closed but not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write_all(root: Path, project: Project) -> Path:
    for name in tables.names(project):
        tables.write(root, project, name, PUBLISHED)
    for name in project.figures:
        figures.write(root, project, name, PUBLISHED)
    claim_tables.write(root, project, PUBLISHED)
    return page.write(root, project, CAPTIONS)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path)
    store_record(tmp_path, made, ONE_SHOT, "inductive", {0: [0, 0, 0, 0, 50, 50], 1: [0, 0, 0, 0, 100, 0]})
    store_sine(tmp_path)
    return made


def test_page_holds_everything_in_one_file_without_script(tmp_path: Path, project: Project) -> None:
    text = write_all(tmp_path, project).read_text(encoding="utf-8")
    tags = Balance()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert tags.seen.count("figure") == tags.seen.count("img") == 3
    assert (
        tags.seen.count("table") == 9
    )  # table-2, sine, three kinds of claims, figure-1's claims, trainings, cells, records
    assert set(re.findall(r'(?:src|href)="([a-z]+):', text)) == {"data", "https"}
    assert re.findall(r'href="(https[^"]*)"', text) == ["https://arxiv.org/abs/1803.02999"]


def test_page_tells_numbers_settings_and_how_they_were_made(tmp_path: Path, project: Project) -> None:
    text = write_all(tmp_path, project).read_text(encoding="utf-8")
    assert "<h1>Made-up numbers</h1>" in text
    assert "<td>85.00 ± 63.53</td>" in text
    assert "<td>2 of 3</td><td>0, 1</td><td>100</td>" in text
    assert "<td>0 of 3</td><td>not run</td><td>100</td>" in text
    assert "<td>1,000</td><td>1 to 0</td>" in text  # outer steps and their size
    assert "<td>12 s</td><td>0123456789abcdef</td><td>a made-up device</td><td>a made-up machine</td>" in text


def test_page_tells_what_became_of_the_papers_claims(tmp_path: Path, project: Project) -> None:
    text = write_all(tmp_path, project).read_text(encoding="utf-8")
    assert "<h3>Claims of order: does ours agree?</h3>" in text
    assert '<th scope="row">Omniglot 5-way 1-shot: transduction helps Reptile.</th><td>+2.29</td>' in text
    (tmp_path / "results/claims.csv").unlink()
    with pytest.raises(UserError, match=r"claims\.csv: no such table; write it first"):
        page.write(tmp_path, project, CAPTIONS)


def test_page_of_cells_that_the_paper_lacks_says_that_nothing_is_claimed(tmp_path: Path) -> None:
    made = make_project(tmp_path, changed_params(evaluations={}, tables={}, figures={}, sine=None))
    assert "<p>No claim of the paper is about these cells.</p>" in write_all(tmp_path, made).read_text(encoding="utf-8")


def test_page_does_without_the_record_of_how_it_was_made(tmp_path: Path, project: Project) -> None:
    for path in tmp_path.glob("results/cells/**/*.run.json"):
        path.unlink()
    text = write_all(tmp_path, project).read_text(encoding="utf-8")
    assert "<td>0</td><td>90.00</td><td>—</td><td>—</td><td>—</td><td>—</td>" in text


def test_page_without_any_record_says_so(tmp_path: Path) -> None:
    text = write_all(tmp_path, make_project(tmp_path)).read_text(encoding="utf-8")
    assert "No record exists yet." in text
    assert "not run" in text


def test_title_is_escaped(tmp_path: Path) -> None:
    text = write_all(tmp_path, make_project(tmp_path, changed_params(title="<b> & co", figures={}))).read_text(
        encoding="utf-8"
    )
    assert "<h1>&lt;b&gt; &amp; co</h1>" in text


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, project: Project) -> None:
    first = write_all(tmp_path, project).read_bytes()
    assert write_all(tmp_path, project).read_bytes() == first


def test_a_missing_table_figure_or_caption_is_refused(tmp_path: Path, project: Project) -> None:
    with pytest.raises(UserError, match=r"table-2\.csv: no such table"):
        page.write(tmp_path, project, CAPTIONS)
    write_all(tmp_path, project)
    (tmp_path / "results/figures/figure-1.png").unlink()
    with pytest.raises(UserError, match=r"figure-1\.png: no such figure"):
        page.write(tmp_path, project, CAPTIONS)
    with pytest.raises(UserError, match=r"table-2\.rst: no such caption"):
        page.write(tmp_path, project, tmp_path)


def test_a_damaged_run_file_is_refused(tmp_path: Path, project: Project) -> None:
    write_all(tmp_path, project)
    path = tmp_path / f"results/cells/{ONE_SHOT}/inductive/seed-0.run.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"seed-0\.run\.json: not valid JSON"):
        page.write(tmp_path, project, CAPTIONS)


def test_captions_become_paragraphs() -> None:
    assert page.paragraphs("One\nline & more.\n\n\n``code`` here.\n") == (
        "<p>One line &amp; more.</p>\n<p><code>code</code> here.</p>"
    )


@pytest.mark.parametrize("path", sorted(CAPTIONS.glob("*.rst")), ids=lambda path: path.name)
def test_captions_are_plain_paragraphs(path: Path) -> None:
    """Snakemake fills {{ }} in captions, and the page knows no markup but ``code``."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"[{}<>*|]|^[ \t]|^\.\. |^[=\-~]{3}|`_", text, re.MULTILINE)
    assert page.paragraphs(text)
