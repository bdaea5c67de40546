"""Badges of the README: small SVG pictures with counts from results/claims.csv, so that a clone can back them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firstorder.files import replacing
from firstorder.report import BADGE
from firstorder.report.claims import claim_tables, outcomes
from firstorder.report.text.templating import TEMPLATES, environment

COLOURS = {"hold": "#2e7d32", "fail": "#b3261e", "open": "#5f6368"}  # white text on each: contrast of at least 4.5
_LETTER = 6.1  # pixels, mean width of DejaVu Sans at 11 pixels; textLength then makes the text exactly as wide
_MARGIN = 7  # pixels, on each side of a text


def write(root: Path) -> list[Path]:
    """Write the badges of the folder `root` to results/badges/, from the claims that are judged there."""
    of_paper = claim_tables.of_paper(claim_tables.read(root))
    values = of_paper[of_paper["kind"] == "value"]
    paths = []
    for name, words in {
        "numbers": _numbers(values["verdict"]),
        "claims": _claims(of_paper["verdict"]),
    }.items():
        path = root / BADGE.format(name=name)
        with replacing(path) as part:
            part.write_text(render(*words), encoding="utf-8")
        paths.append(path)
    return paths


def render(label: str, message: str, colour: str) -> str:
    """Return a badge as SVG: `label` on grey, then `message` on `colour` (CSS)."""
    texts = [{"text": text, "width": round(_LETTER * len(text))} for text in (label, message)]
    left, right = (int(str(text["width"])) + 2 * _MARGIN for text in texts)
    values = {"texts": texts, "left": left, "right": right, "margin": _MARGIN, "colour": colour}
    return environment(TEMPLATES).get_template("badge.svg.j2").render(values)


def _numbers(verdicts: pd.Series) -> tuple[str, str, str]:
    groups = outcomes.counts(verdicts)
    run = len(verdicts) - groups["not run"]
    colour = COLOURS["hold" if run == len(verdicts) else "open"]
    return "the paper's numbers", f"{run} of {len(verdicts)} run at full length", colour


def _claims(verdicts: pd.Series) -> tuple[str, str, str]:
    groups = outcomes.counts(verdicts)
    colour = COLOURS["fail" if groups["fail"] > groups["hold"] else "hold"]
    return "the paper's claims", claim_tables.in_short(verdicts), colour
