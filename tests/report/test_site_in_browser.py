"""The site of the recorded results in a browser: no overflow, nothing from a network, readable by everyone.

Needs a Chromium; Debian's package is `chromium`. Where there is none, these tests are skipped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from firstorder.report.site import site
from firstorder.report.site.models import PublishedFile
from firstorder.settings import checks
from firstorder.upkeep import dvc
from tests import browser
from tests.browser import Browser
from tests.report.test_page import CAPTIONS
from tests.report.test_published import PUBLISHED
from tests.report.test_site import check_links

ROOT = Path(__file__).parents[2]
WIDTHS = (400, 1200)
CELL = "cells/reptile/omniglot-5way/1shot/transductive.html"
# One page of each template and of each state.
KINDS = (
    "index.html",
    "claims.html",
    "models.html",
    "runtimes.html",
    "figures/figure-1.html",
    "reduced/index.html",
    "api/index.html",
    "api/method/inner_loop.html",
    CELL,
    CELL.replace("5way", "20way"),  # not run
)
PROGRAM = browser.found()
OVERFLOW = """
(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *, header *, footer *")].filter(
    (one) => one.getBoundingClientRect().right > wide + 1 && !one.parentElement.closest(".wide"));
  return [document.documentElement.scrollWidth - wide, ...out.map((one) => one.outerHTML.slice(0, 80))];
})()
"""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium found: apt-get install chromium")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site of this repository's results."""
    folders = [
        path.parent.parent for path in (*ROOT.glob("results/metrics.json"), *ROOT.glob("*/results/metrics.json"))
    ]
    folders += [path.parent.parent for path in ROOT.glob("studies/*/*/results/metrics.json")]
    published = {
        found.path.relative_to(ROOT).as_posix(): PublishedFile(md5=found.md5, size=found.size)
        for found in dvc.tracked(ROOT)
    }
    request = site.Request(
        projects={root: checks.load(root / "params.yaml") for root in folders if root.name != "quick"},
        published=PUBLISHED,
        captions=CAPTIONS,
        published_files=published,
        benchmarks=ROOT / "results/bench",
    )
    out = tmp_path_factory.mktemp("real")
    site.write(request, out)
    return out


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a tab of a browser that all tests of this file use."""
    assert PROGRAM is not None
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_every_link_of_the_real_site_leads_somewhere(real: Path) -> None:
    assert check_links(real) > 1000


def test_no_page_is_wider_than_the_window_and_none_asks_a_network(real: Path, tab: Browser) -> None:
    wide = {}
    for path in sorted(real.rglob("*.html")):
        tab.open(path)
        for width in WIDTHS:
            tab.size(width)
            if (found := tab.run(OVERFLOW)) != [0]:
                wide[path.relative_to(real).as_posix(), width] = found
    assert wide == {}
    assert {address.partition(":")[0] for address in tab.requests()} <= {"file", "data", "about"}


@pytest.mark.parametrize("page", KINDS)
def test_axe_finds_no_fault(real: Path, tab: Browser, page: str) -> None:
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core-python is not installed: make figures")
    script = Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    tab.open(real / page)
    tab.run("for (const one of document.querySelectorAll('details')) one.open = true")
    tab.run(script + "; 0")
    for width, dark in ((400, False), (1200, True)):
        tab.size(width, dark=dark)
        faults = tab.run("axe.run().then((all) => all.violations.map((one) => [one.id, one.help, one.nodes[0].html]))")
        assert faults == [], (page, width, dark)


def test_claims_are_filtered_by_the_script_and_all_shown_without_it(real: Path, tab: Browser) -> None:
    shown = "[...document.querySelectorAll('[data-verdict]')].filter((one) => one.getClientRects().length).length"
    tab.size(1200)
    tab.open(real / "claims.html")
    everything = tab.run("document.querySelectorAll('[data-verdict]').length")
    assert tab.run(shown) == everything > 50
    failed = tab.run("document.querySelectorAll('[data-verdict=fail]').length")
    choose = "const one = document.querySelector('select[name=verdict]'); one.value = 'fail';"
    tab.run(f"(() => {{{choose} one.dispatchEvent(new Event('change', {{bubbles: true}}))}})()")
    assert tab.run(shown) == failed
    assert tab.run("document.getElementById('shown').textContent") == f"{failed} of {everything} claims"
    # Without the script there are no filters, and every claim.
    text = (real / "claims.html").read_text(encoding="utf-8")
    (real / "plain.html").write_text(text.replace('<script src="claims.js" defer></script>', ""), encoding="utf-8")
    tab.open(real / "plain.html")
    assert tab.run(shown) == everything
    assert tab.run("document.getElementById('filters').getClientRects().length") == 0
    (real / "plain.html").unlink()
