"""Numbers, names and tables as printed: the only place where a fraction becomes percent."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

NOT_RUN = "not run"
MISSING = "—"
STALE_MARK = "‡"  # † marks a single seed
STALE_FOOTNOTE = f"{STALE_MARK} Stale: made with other settings or data than now, or not sealed; see: firstorder stale."
MINUS = "\N{MINUS SIGN}"  # as wide as +, unlike the hyphen
_COLUMN = re.compile(r"(?P<dataset>.+?)-(?P<way>\d+)way(?:/(?P<shot>\d+)shot)?(?P<rest>.*)")
_DATASETS = {"omniglot": "Omniglot", "mini-imagenet": "mini-ImageNet", "glyphs": "Glyphs"}
_ALGORITHMS = {
    "reptile": "Reptile",
    "fomaml": "FOMAML",
    "maml": "MAML",
    "joint": "Joint training",
    "last_step": "FOMAML (last step)",
    "untrained": "Random initialisation",
    "random initialisation": "Random initialisation",
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # line ends too
_LATEX = {
    **{character: rf"\{character}" for character in "%&_#${}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    MINUS: "$-$",
    "—": "---",
    STALE_MARK: r"\ddag",
}
_MARKDOWN = {**{character: rf"\{character}" for character in r"\|*`_~"}, "<": "&lt;", "&": "&amp;", "](": r"]\("}
# Not an underscore within a word, and an ampersand only where it begins an entity.
_READ_BY_MARKDOWN = re.compile(r"[\\|*`<~]|\]\(|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")


@dataclass(frozen=True, kw_only=True)
class PrintedTable:
    """A table ready to print: every entry is text, every heading names its unit.

    The first `label_columns` columns hold names and are aligned left; the others hold numbers and are aligned right.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    label_columns: int
    footnotes: tuple[str, ...] = ()

    def marking(self, stale: Sequence[bool]) -> PrintedTable:
        """Return the table with stale rows marked in their last label, and a footnote that explains the mark."""
        if not any(stale):
            return self
        last = self.label_columns - 1
        rows = tuple(
            (*row[:last], f"{row[last]} {STALE_MARK}", *row[last + 1 :]) if is_stale else row
            for row, is_stale in zip(self.rows, stale, strict=True)
        )
        return dataclasses.replace(self, rows=rows, footnotes=(*self.footnotes, STALE_FOOTNOTE))

    def to_markdown(self) -> str:
        """Return a Markdown table between its title and its footnotes."""
        rule = ["---" if i < self.label_columns else "---:" for i in range(len(self.heading))]
        lines = [f"| {' | '.join(map(markdown, row))} |" for row in (self.heading, rule, *self.rows)]
        footnotes = map(markdown, self.footnotes)
        return "\n\n".join([f"**{markdown(self.title)}**", "\n".join(lines), *footnotes]) + "\n"

    def to_latex(self) -> str:
        r"""Return a tabular environment (package booktabs), with title and footnotes as comments."""
        columns = "".join("l" if i < self.label_columns else "r" for i in range(len(self.heading)))
        # {}: a [ or * at the beginning of a row would be an argument of the command before it.
        heading, *body = (
            "{}" * (row[0].strip()[:1] in tuple("[*")) + " & ".join(map(_latex, row)) + r" \\"
            for row in (self.heading, *self.rows)
        )
        lines = [
            *(f"% {one_line(text)}" for text in (self.title, *self.footnotes)),
            r"% Needs \usepackage{booktabs}.",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", heading, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def percent(fraction: float, half_width: float = math.nan) -> str:
    """Return percent with two decimals, like `97.68 ± 0.04`; without ± if the half-width is NaN."""
    if math.isnan(fraction):
        return NOT_RUN
    spread = "" if math.isnan(half_width) else f" ± {100 * half_width:.2f}"
    return f"{100 * fraction:.2f}{spread}"


def points(difference: float) -> str:
    """Return a difference of two fractions in percentage points, like `+0.12`; a dash for NaN."""
    return MISSING if math.isnan(difference) else f"{100 * difference:+.2f}".replace("-", MINUS)


def count_range(counts: pd.Series) -> str:
    """Return a count, or the lowest and the highest, like `1,000 to 2,000`."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def algorithm_label(algorithm: str) -> str:
    """Return the printed name of an algorithm, or the name itself if it has none."""
    return _ALGORITHMS.get(algorithm, algorithm)


def column_label(column: str) -> str:
    """Return `Omniglot 5-way 1-shot` for `omniglot-5way/1shot`."""
    match = _COLUMN.fullmatch(column)
    if match is None:
        return column
    name = _DATASETS.get(match["dataset"], match["dataset"])
    shot = f"{match['shot']}-shot" if match["shot"] else ""
    rest = re.sub(r"(\d+)shot", r"\1-shot", match["rest"].strip("-/"))
    parts = (name, f"{match['way']}-way", shot, rest)
    return " ".join(part for part in parts if part)


def training_label(training: str) -> str:
    """Return `Reptile, Omniglot 5-way` for the training `reptile/omniglot-5way`; for an evaluation add `1-shot`."""
    algorithm, _, column = training.partition("/")
    return f"{algorithm_label(algorithm)}, {column_label(column)}"


def one_line(text: str) -> str:
    """Return a text with a space for line ends and other control characters."""
    return _CONTROLS.sub(" ", text)


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, in a line of its own or in a table."""
    return _READ_BY_MARKDOWN.sub(lambda found: _MARKDOWN[found[0]], one_line(text))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text))
