"""Badges: counts of what claims.csv says, as SVG that a parser reads."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from firstorder.errors import UserError
from firstorder.report import BADGE
from firstorder.report.claims import claim_tables
from firstorder.report.text import badges

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def written(root: Path) -> dict[str, str]:
    """Write the badges of a folder; return what each says, by name."""
    return {path.stem: ElementTree.parse(path).getroot().findtext(f"{SVG}title", "") for path in badges.write(root)}


@pytest.mark.parametrize(
    ("lines", "numbers", "claims"),
    [
        (
            [("paper", "paper", "value", "not run"), ("paper", "paper", "value", "equivalent: 3 seeds")],
            "1 of 2 run at full length",
            "1 holds, 0 fail, 1 open",
        ),
        (
            [
                ("paper", "paper", "value", "undecidable: the paper's ± is 0.4"),
                ("paper", "paper", "value", "worse"),
                ("paper", "apart", "order", "holds"),  # counted apart
                ("ours", "ours", "curves", "fails"),  # not the paper's
                ("paper", "paper", "curves", "fails"),
            ],
            "2 of 2 run at full length",
            "0 hold, 2 fail, 1 open",
        ),
        ([("paper", "paper", "value", "reduced length")], "0 of 1 run at full length", "0 hold, 0 fail, 1 open"),
    ],
)
def test_badges_count_the_papers_claims_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, ...]], numbers: str, claims: str
) -> None:
    data = pd.DataFrame(lines, columns=["origin", "counted", "kind", "verdict"])
    monkeypatch.setattr(claim_tables, "read", lambda root: data)
    said = written(tmp_path)
    assert said == {"numbers": f"the paper's numbers: {numbers}", "claims": f"the paper's claims: {claims}"}


def test_a_folder_without_claims_says_how_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make report"):
        badges.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_texts_are_escaped_and_end_inside_the_badge() -> None:
    picture = ElementTree.fromstring(badges.render("a < b & c", "d", "#123456"))
    texts = picture.findall(f".//{SVG}text")
    assert [text.text for text in texts] == ["a < b & c", "d"]
    ends = [float(text.get("x", "")) + float(text.get("textLength", "")) for text in texts]
    boxes = picture.findall(f"{SVG}g/{SVG}rect")
    limits = [float(boxes[0].get("width", "")), float(picture.get("width", ""))]
    assert all(end <= limit for end, limit in zip(ends, limits, strict=True))


def test_the_badges_of_this_repository_are_those_of_its_claims(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/claims.csv").write_bytes((ROOT / "results/claims.csv").read_bytes())
    for path in badges.write(tmp_path):
        assert path.read_bytes() == (ROOT / BADGE.format(name=path.stem)).read_bytes()
