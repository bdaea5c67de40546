"""Names that a user chooses stay names in LaTeX and Markdown."""

from __future__ import annotations

import re

import pytest

from firstorder.report.text.formatting import PrintedTable

NAMES = [
    r"\write18{touch x}",
    "a & b % c # d_e $f$ {g} ~h^i",
    "one\ntwo",
    "one\rtwo\x0bthree\u2028four\x85five\x00six",
    "x | y | z",
    "end\\",
    "<img src=x onerror=y>",
    "`code` **bold** [link](javascript:z)",
    "\\\\|",
    "[ours]",
    "*star",
    "_x_ __y__ a_ _b ~~x~~ &amp; &#38;",
]


def table(name: str) -> PrintedTable:
    return PrintedTable(title=name, heading=("Row", name), rows=((name, "1"),), label_columns=1, footnotes=(name,))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_entry_in_markdown(name: str) -> None:
    text = table(name).to_markdown()
    lines = text.splitlines()
    assert len(lines) == 7  # title, blank, heading, rule, row, blank, footnote
    for line in (lines[2], lines[4]):
        unescaped = re.sub(r"\\.", "", line)
        assert unescaped.count("|") == 3
        assert not set(unescaped) & set("<`*~")
        assert not re.search(r"(?<!\w)_|_(?!\w)|&#?(?!amp;|lt;)\w+;", unescaped)
        assert "](" not in unescaped


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_entry_in_latex(name: str) -> None:
    lines = table(name).to_latex().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("% ")
    assert lines[1].startswith("% ")
    for line in (lines[5], lines[7]):
        assert line.endswith(r" \\")
        entries = re.sub(
            r"\\textbackslash{}|\\textasciicircum{}|\\textasciitilde{}|\$[<>]\$|\\[%&_#${}]", "", line[:-3]
        )
        assert entries.count("&") == 1
        assert entries[:1] not in ("[", "*")
        assert not set(entries.removeprefix("{}")) & set("\\%_#${}~^")


def test_ordinary_text_stays_as_it_is() -> None:
    name = "Reptile [1, 2], mini_imagenet: 97.68 ± 0.04 (± tasks) > 0"
    assert table(name).to_markdown().count(name) == 4
