"""The report as one HTML file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.records import cells
from firstorder.report.claims import claim_tables
from firstorder.report.figures import figures
from firstorder.report.read import staleness
from firstorder.report.text import captions, page, tables
from firstorder.report.text.formatting import STALE_FOOTNOTE, PrintedTable
from firstorder.settings import Project
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, changed_params, make_project, store_record, store_sine

CAPTIONS = Path(__file__).parents[2] / "workflow" / "report"
VOID = {"meta", "img", "link", "source"}
PAPER = "https://arxiv.org/abs/1803.02999"
HOSTILE = "<script>alert(\"1\")</script> & 'co'"


class Balance(HTMLParser):
    """Collects tags, and fails if one is closed that is not open."""

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


class Content(Balance):
    """Also collects the attributes of each tag, and the text of each heading, cell and style sheet."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        assert len(dict(attrs)) == len(attrs), tag
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def parse(text: str) -> Content:
    content = Content()
    content.feed(text)
    content.close()
    assert content.open == []
    return content


def contrast(first: str, second: str) -> float:
    """Return the ratio of WCAG 2 between two colours like #1c1c1c."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def write_all(root: Path, project: Project) -> Path:
    for name in tables.names(project):
        tables.write(root, project, name, PUBLISHED)
    for name in project.figures:
        figures.write(root, project, name, PUBLISHED)
    claim_tables.write(root, project, PUBLISHED)
    return page.write(root, project, CAPTIONS)


def store_all(root: Path) -> Project:
    made = make_project(root)
    store_record(root, made, ONE_SHOT, "inductive", {0: [0, 0, 0, 0, 50, 50], 1: [0, 0, 0, 0, 100, 0]})
    store_sine(root)
    return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return store_all(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page's text, for tests that only read it."""
    root = tmp_path_factory.mktemp("page")
    return write_all(root, store_all(root)).read_text(encoding="utf-8")


def test_page_holds_everything_in_one_file_without_script(tmp_path: Path, project: Project) -> None:
    text = write_all(tmp_path, project).read_text(encoding="utf-8")
    tags = Balance()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert tags.seen.count("figure") == tags.seen.count("img") == 3
    # table-2, sine, four kinds of claims, those of two figures, trainings, cells, records
    assert tags.seen.count("table") == 11
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
    made = make_project(tmp_path, changed_params(trainings={}, evaluations={}, tables={}, figures={}, sine=None))
    assert "<p>No claim of the paper is about these cells.</p>" in write_all(tmp_path, made).read_text(encoding="utf-8")


def test_page_does_without_the_record_of_how_it_was_made(tmp_path: Path, project: Project) -> None:
    """As in a folder from before results were sealed: only with a mark."""
    for path in tmp_path.glob("results/**/*.run.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(cells.run_text({name: run[name] for name in run if name not in ("sha256", "run_digest")}))
    for path in tmp_path.glob("results/cells/**/*.run.json"):
        path.unlink()
    with pytest.raises(UserError, match="holds no seal"):
        write_all(tmp_path, project)
    with staleness.allowed():
        text = write_all(tmp_path, project).read_text(encoding="utf-8")
    assert STALE_FOOTNOTE in text
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


def test_whatever_comes_from_settings_or_records_is_escaped() -> None:
    table = PrintedTable(
        title=HOSTILE, heading=(HOSTILE,) * 2, rows=((HOSTILE,) * 2,), label_columns=1, footnotes=(HOSTILE,)
    )
    texts = {"title": HOSTILE, "text": page.paragraphs(HOSTILE), "png": "AAAA", "numbers": HOSTILE}
    whole = page.Section(key="key", table=table, claims=[table], **texts)
    plain = page.Section(key="key", title="Plain")
    content = parse(page.render(HOSTILE, HOSTILE, [whole]))
    assert content.seen.count("script") == 0
    assert content.of("img") == [{"alt": HOSTILE, "src": "data:image/png;base64,AAAA"}]
    assert {attributes["aria-label"] for attributes in content.of("div")} == {HOSTILE}
    assert [data for tag, data in content.texts if tag == "title"] == [f"firstorder: {HOSTILE}"]
    tags = [tag for tag, data in content.texts if data == HOSTILE]
    cells = ["th", "th", "th", "td", "p"]
    assert tags == ["h1", "p", "a", "h2", "p", "code", *cells, "h3", *cells]
    assert set(parse(page.render("t", "", [plain])).seen) & {"table", "figure", "h3"} == set()


def test_style_sheet_stands_in_the_page_as_written(written: str) -> None:
    colours, style = ((page.TEMPLATES / f"{name}.css").read_text(encoding="utf-8") for name in ("colours", "page"))
    assert written.count(style) == 1
    assert [data.strip() for tag, data in parse(written).texts if tag == "style"] == [f"{colours}{style}".strip()]


def test_page_loads_nothing_from_outside(written: str) -> None:
    """There is one link, to the paper; everything that a browser fetches by itself is inside the file."""
    content = parse(written)
    assert not {"link", "script", "iframe", "object", "embed", "base", "source"} & set(content.seen)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in content.of("img"))
    assert not {"srcset", "style", "background", "poster"} & {name for _, named in content.attributes for name in named}
    (style,) = (data for tag, data in content.texts if tag == "style")
    assert not re.search(r"url\(|@import|@font-face|://", style)


def test_headings_go_down_one_level_at_a_time(written: str) -> None:
    seen = parse(written).seen
    levels = [int(tag[1]) for tag in seen if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert set(levels) == {1, 2, 3}


def test_a_screen_reader_finds_names_and_roles(written: str) -> None:
    content = parse(written)
    assert content.of("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in content.of("img"))
    assert {cell.get("scope") for cell in content.of("th")} == {"col", "row"}
    # What scrolls can be reached by keyboard, and then has a name and a role.
    scrolling = content.of("div")
    assert len(scrolling) == len(content.of("table"))
    assert all(box["tabindex"] == "0" and box["role"] == "group" and box["aria-label"] for box in scrolling)
    keys = [section["id"] for section in content.of("section")]
    assert len(set(keys)) == len(keys)
    assert [link["href"] for link in content.of("a") if link["href"] != PAPER] == [f"#{key}" for key in keys]


def test_text_has_enough_contrast_in_light_and_in_dark() -> None:
    style = (page.TEMPLATES / "colours.css").read_text(encoding="utf-8")
    themes = [
        dict(re.findall(r"--(\w+): (#\w{6});", rule)) for rule in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        assert all(contrast(theme[name], theme["back"]) >= 7 for name in ("text", "faint", "link")), theme


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, project: Project) -> None:
    first = write_all(tmp_path, project).read_bytes()
    assert write_all(tmp_path, project).read_bytes() == first


def test_a_missing_table_or_figure_is_refused(tmp_path: Path, project: Project) -> None:
    with pytest.raises(UserError, match=r"table-2\.csv: no such table"):
        page.write(tmp_path, project, CAPTIONS)
    write_all(tmp_path, project)
    (tmp_path / "results/figures/figure-1.png").unlink()
    with pytest.raises(UserError, match=r"figure-1\.png: no such figure"):
        page.write(tmp_path, project, CAPTIONS)


def test_a_folders_own_caption_comes_first_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert captions.read(tmp_path, CAPTIONS, "table-2") == (CAPTIONS / "table-2.rst").read_text(encoding="utf-8")
    assert captions.read(tmp_path, CAPTIONS, "mine") == ""
    (tmp_path / captions.OWN).mkdir()
    for name in ("mine", "table-2"):
        (tmp_path / captions.OWN / f"{name}.rst").write_text(f"Of {name}.", encoding="utf-8")
        assert captions.read(tmp_path, CAPTIONS, name) == f"Of {name}."


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
    """Snakemake fills {{ }} in captions, and the only markup that the page supports is ``code``."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"[{}<>*|]|^[ \t]|^\.\. |^[=\-~]{3}|`_", text, re.MULTILINE)
    assert page.paragraphs(text)
