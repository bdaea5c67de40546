"""The page in headless Chromium: drawing by mouse, touch and keyboard; its answers, widths and accessible names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder.upkeep import demo
from tests.browser import Browser, found
from tests.demo import assembled

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium: apt-get install chromium")

Point = tuple[float, float]  # fractions of the pad's width and height
TRIANGLE = [[(0.3, 0.3), (0.7, 0.3), (0.5, 0.75), (0.3, 0.3)]]
LADDER = [[(0.3, 0.25), (0.3, 0.8)], [(0.3, 0.5), (0.7, 0.5)], [(0.7, 0.25), (0.7, 0.8)]]
OTHER_TRIANGLE = [[(0.35, 0.33), (0.74, 0.3), (0.56, 0.7), (0.33, 0.35)]]
ADAPTED = "document.getElementById('progress').textContent.startsWith('Adapted')"
ANSWERS = "Array.from(document.querySelectorAll('.answer h3'), (heading) => heading.textContent)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    path = assembled.project_with_checkpoint(folder / "project")
    demo.assemble(assembled.wanted(path.parents[3], folder / "demo"))
    return folder / "demo/index.html"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(started: Browser, site: Path) -> Browser:
    """Open the page afresh."""
    started.events.clear()
    started.size(1200)
    started.open(site)
    started.run("Page.ready")
    return started


def place(browser: Browser, pad: int) -> tuple[float, float, float, float]:
    """Scroll to a pad; return left, top, width and height of its sheet."""
    found = browser.run(f"""(() => {{ const sheet = document.querySelectorAll('.sheet')[{pad}];
        sheet.scrollIntoView({{ block: 'center' }}); const box = sheet.getBoundingClientRect();
        return [box.left, box.top, box.width, box.height]; }})()""")
    return found[0], found[1], found[2], found[3]


def draw(browser: Browser, pad: int, strokes: list[list[Point]], *, touch: bool = False) -> None:
    """Draw strokes on a pad."""
    left, top, width, height = place(browser, pad)
    for stroke in strokes:
        points = [(left + x * width, top + y * height) for x, y in stroke]
        if touch:
            browser.touch("touchStart", points[0])
            for point in points[1:]:
                browser.touch("touchMove", point)
            browser.touch("touchEnd")
        else:
            browser.mouse("mousePressed", *points[0])
            for point in points[1:]:
                browser.mouse("mouseMoved", *point)
            browser.mouse("mouseReleased", *points[-1])


def image(browser: Browser, pad: int) -> np.ndarray[Any, Any]:
    """Return what the network sees of a pad: True is ink, read from the small picture beside it."""
    rgba = browser.run(f"""Array.from(document.querySelectorAll('.pad .seen')[{pad}].getContext('2d')
        .getImageData(0, 0, 28, 28).data)""")
    return np.array(rgba, np.uint8).reshape(28, 28, 4)[:, :, 0] < 128


def inked(strokes: list[list[Point]]) -> np.ndarray[Any, Any]:
    """Ink strokes of fractions by the stated rule: a pen of radius 2.6 on 105 x 105 pixels, then nearest neighbour."""
    centres = np.stack(np.meshgrid(np.arange(105) + 0.5, np.arange(105) + 0.5), axis=-1)
    sheet = np.zeros((105, 105), np.bool_)
    for stroke in strokes:
        points = 105 * np.array(stroke)
        for start, end in itertools.pairwise(points):
            along = np.clip(((centres - start) @ (end - start)) / ((end - start) ** 2).sum(), 0, 1)
            sheet |= ((centres - start - along[..., None] * (end - start)) ** 2).sum(axis=-1) <= 2.6**2
    nearest = [math.floor((i + 0.5) * 105 / 28) for i in range(28)]
    return sheet[np.ix_(nearest, nearest)]


def move_slider(browser: Browser, step: int) -> None:
    browser.run(f"""(() => {{ const slider = document.getElementById('step');
        slider.value = {step}; slider.dispatchEvent(new Event('input')); }})()""")


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_drawings_are_inked_by_the_stated_rule_and_recognised(browser: Browser, touch: bool) -> None:
    """Pixels may differ where the pointer's rounding moves the edge of a stroke."""
    browser.size(400 if touch else 1200, touch=touch)
    for pad, strokes in ((0, TRIANGLE), (2, LADDER), (5, OTHER_TRIANGLE)):
        draw(browser, pad, strokes, touch=touch)
        assert (image(browser, pad) ^ inked(strokes)).sum() <= 8
        assert 25 < image(browser, pad).sum() < 120
    browser.wait(ADAPTED)
    browser.wait(f"{ANSWERS}[0]?.includes('character')")
    assert browser.run(ANSWERS)[0].startswith("Query 1: character 1 (")
    assert "The network has five outputs; those of the 3 empty pads" in browser.run("document.body.textContent")
    browser.wait(
        "document.getElementById('spoken').textContent.startsWith('After 50 inner steps: Query 1: character 1')"
    )


def test_keys_draw_undo_and_clear(browser: Browser) -> None:
    browser.run("document.querySelector('.sheet').focus()")
    browser.key(" ")
    browser.key("ArrowRight", 5)
    browser.key(" ")
    label = "document.querySelector('.sheet').getAttribute('aria-label')"
    assert browser.run(label) == "Character 1: 1 stroke"
    assert (image(browser, 0) == inked([[(0.5, 0.5), (0.5 + 20 / 105, 0.5)]])).all()
    browser.key("ArrowDown", 3)
    browser.key(" ")
    browser.key("ArrowLeft", 2)
    assert browser.run(label) == "Character 1: 2 strokes, pen down"
    browser.key("Escape")
    browser.key("Backspace")
    assert browser.run(label) == "Character 1: 1 stroke"
    browser.key("Delete")
    assert browser.run(label) == "Character 1: empty"
    assert not image(browser, 0).any()


def test_examples_are_recognised_in_both_modes_along_the_slider(browser: Browser) -> None:
    browser.run("document.getElementById('more').click(); document.getElementById('more').click()")
    browser.run("document.getElementById('fill-drawings').click()")
    browser.wait(ADAPTED)
    for mode in ("inductive", "transductive"):
        browser.run(f"document.querySelector('input[value={mode}]').click()")
        for step in (50, 5):
            move_slider(browser, step)
            browser.wait(f"document.getElementById('step-number').textContent === '{step}'")
            browser.wait(f"{ANSWERS}.length === 3 && {ANSWERS}.every((text) => /character/.test(text))")
            answers = [text.split(" (")[0] for text in browser.run(ANSWERS)]
            assert answers == [f"Query {query}: character {query + 2}" for query in (1, 2, 3)]
    move_slider(browser, 0)
    browser.wait("document.getElementById('explained').textContent.startsWith('Step 0: the network has not seen')")
    browser.wait("document.querySelectorAll('.curve')[2].querySelector('polyline').points.length === 51")


def test_from_random_weights_the_loss_falls_but_answers_differ(browser: Browser) -> None:
    browser.run("document.getElementById('fill-drawings').click()")
    browser.wait(f"{ADAPTED} && /character/.test({ANSWERS}[0])")
    before = browser.run(ANSWERS)
    browser.run("document.querySelector('input[value=random]').click()")
    browser.wait("/from random weights/.test(document.getElementById('explained').textContent)")
    browser.wait(f"{ADAPTED} && /character/.test({ANSWERS}[0])")
    assert browser.run(ANSWERS) != before
    assert browser.run("document.getElementById('average').textContent") == ""


def test_without_workers_the_page_computes_the_same(browser: Browser, site: Path) -> None:
    added = browser.send("Page.addScriptToEvaluateOnNewDocument", source="delete window.Worker;")
    numbers = []
    for has_worker in (False, True):
        browser.events.clear()
        browser.open(site)
        browser.run("Page.ready")
        browser.run("document.getElementById('fill-glyphs').click()")
        browser.wait(ADAPTED)
        browser.wait("document.querySelectorAll('.bars .number').length === 5")
        numbers.append(browser.run("Array.from(document.querySelectorAll('.bars .bar'), (bar) => bar.style.width)"))
        assert any(address.startswith("blob:") for address in browser.requests()) is has_worker
        if not has_worker:
            browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    assert numbers[0] == numbers[1]


def test_nothing_is_loaded_from_elsewhere(browser: Browser, site: Path) -> None:
    browser.run("document.getElementById('fill-glyphs').click()")
    browser.wait(ADAPTED)
    folder = site.parent.resolve().as_uri()
    assert len(browser.requests()) > 8
    assert [one for one in browser.requests() if not one.startswith((folder, "blob:"))] == []
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_its_window(browser: Browser, width: int, dark: bool) -> None:
    browser.size(width, dark=dark)
    for _ in range(4):
        browser.run("document.getElementById('more').click()")
    browser.run("document.getElementById('fill-drawings').click()")
    browser.wait(f"{ANSWERS}.length === 5")
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_everything_one_can_operate_or_look_at_has_a_name(browser: Browser) -> None:
    browser.run("document.getElementById('fill-drawings').click()")
    browser.wait(f"{ANSWERS}.length === 1")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "application", "combobox", "slider", "radio", "img", "link", "group", "table"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    shown = [(role, name) for role, name in named if role in roles]
    assert {"button", "application", "slider", "radio", "link"} <= {role for role, _ in shown}
    assert [role for role, name in shown if not name] == []
    buttons = [name for role, name in shown if role == "button"]
    assert len(buttons) == len(set(buttons))
