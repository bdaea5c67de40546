"""Figures on a dark page: everything that is drawn can be seen, and light figures do not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from firstorder.report.benchmark import performance, performance_charts
from firstorder.report.figures import figures, style, themes
from firstorder.settings import checks
from tests.report.test_page import contrast
from tests.report.test_published import PUBLISHED

ROOT = Path(__file__).parents[2]
PROJECT = checks.load(ROOT / "params.yaml")
EXAMPLE = Path(__file__).parents[1] / "bench_example.json"


def written(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in to_rgba(colour)[:3])


def seen(figure: Figure) -> list[tuple[Artist, Any]]:
    """List what carries a meaning with its colours: lines, marks, words and bars; the grid and the frame do not."""
    frame = {id(part) for side in figure.findobj(Axis) for part in side.findobj(Line2D)}
    found: list[tuple[Artist, Any]] = []
    for line in figure.findobj(Line2D):
        if isinstance(line, Line2D) and id(line) not in frame:
            found += [(line, line.get_color()), (line, line.get_markeredgecolor())]
    found += [(text, text.get_color()) for text in figure.findobj(Text) if text.get_text().strip()]
    bars = [bar for axis in figure.axes for group in axis.containers for bar in group if isinstance(bar, Rectangle)]
    return found + [(bar, bar.get_facecolor()) for bar in bars]


@pytest.mark.parametrize("theme", [themes.LIGHT, themes.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", PROJECT.figures)
def test_all_that_is_drawn_stands_out_from_the_page(name: str, theme: themes.Theme) -> None:
    """A colour that is not of the theme, such as black, would be invisible on a dark page."""
    settings = PROJECT.figures[name]
    data = figures._gathered(ROOT, PROJECT, settings, PUBLISHED)
    with style.applied(theme):
        drawn = figures.KINDS[settings.kind].draw(data)
    least = 4.5 if theme is themes.DARK else 1.5  # the light palette is seaborn's, as it is
    found = [(part, written(colour)) for part, colour in seen(drawn)]
    assert len(found) > 10
    assert [(part, colour) for part, colour in found if contrast(colour, written(theme.page)) < least] == []


def test_the_charts_of_the_benchmark_stand_out_from_a_dark_page() -> None:
    result = performance.read(EXAMPLE)
    with style.applied(themes.DARK):
        for drawn in (
            performance_charts.draw_rates(performance.rates(result)),
            performance_charts.draw_scaling(performance.scaling(result)),
        ):
            for part, colour in seen(drawn):
                assert contrast(written(colour), themes.DARK.page) >= 4.5, part


def test_zero_differs_from_an_empty_field_in_a_map() -> None:
    for theme in (themes.LIGHT, themes.DARK):
        with themes.used(theme):
            assert contrast(written(themes.map_of_numbers()(0.0)), written(theme.page)) > 1.1


def test_a_role_has_the_same_place_in_both_palettes() -> None:
    assert len(themes.LIGHT.palette) == len(themes.DARK.palette) == len(set(themes.DARK.palette))


def test_the_theme_ends_with_its_block() -> None:
    before = themes.colour("reptile"), themes.ink()
    with style.applied(themes.DARK):
        assert (themes.colour("reptile"), themes.ink()) != before
    assert (themes.colour("reptile"), themes.ink()) == before
