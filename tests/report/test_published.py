"""What the paper states, as the repository holds it, and how a damaged file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.report.read import published

PUBLISHED = Path(__file__).parents[2] / "paper" / "published.csv"
HEADING = "table,row,column,accuracy_percent,half_width_percent,half_width_meaning,confidence_grade,source\n"


def test_both_tables_are_complete() -> None:
    """Four rows each; two columns in Table 1, four in Table 2."""
    numbers = published.read(PUBLISHED)
    assert numbers.groupby("table").size().to_dict() == {"table-1": 8, "table-2": 16}
    assert set(numbers["row"]) == {
        "MAML + Transduction",
        "1st-order MAML + Transduction",
        "Reptile",
        "Reptile + Transduction",
    }
    assert numbers[["half_width_meaning", "confidence_grade", "source"]].notna().all(axis=None)
    assert numbers["confidence_grade"].str[0].isin(["A", "B", "C"]).all()


def test_reptile_on_omniglot_is_as_printed() -> None:
    numbers = published.read(PUBLISHED)
    chosen = numbers[(numbers["table"] == "table-2") & (numbers["row"] == "Reptile")].set_index("column")
    assert chosen["printed"].to_dict() == {
        "omniglot-5way/1shot": "95.39 ± 0.09",
        "omniglot-5way/5shot": "98.90 ± 0.10",
        "omniglot-20way/1shot": "88.14 ± 0.15",
        "omniglot-20way/5shot": "96.65 ± 0.33",
    }
    assert chosen.loc["omniglot-5way/5shot", "accuracy"] == pytest.approx(0.989)
    assert chosen.loc["omniglot-5way/5shot", "half_width"] == pytest.approx(0.001)


def test_transduction_helps_in_every_column() -> None:
    numbers = published.read(PUBLISHED).set_index(["row", "table", "column"])["accuracy"]
    assert (numbers["Reptile + Transduction"] > numbers["Reptile"]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table,row\na,b\n", "column column, accuracy_percent"),
        (HEADING + "t,r,c,high,0.1,m,A,s\n", "expected numbers"),
        (HEADING + "t,r,c,9768,0.1,m,A,s\n", "percentages from 0 to 100"),
        (HEADING + "t,r,c,97,0.1,m,A,s\nt,r,c,98,0.1,m,A,s\n", "two lines for t / r / c"),
        ("", "not a valid CSV file"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        published.read(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        published.read(tmp_path / "published.csv")


@pytest.mark.parametrize(
    ("grade", "short", "words"),
    [
        ("A", "A", "first-hand"),
        ("B", "B", "as quoted by at least two other texts [B]"),
        (
            "B; half-width C",
            "B, ± C",
            "as quoted by at least two other texts [B], the ± as quoted by one other text [C]",
        ),
    ],
)
def test_a_grade_is_printed_short_and_in_words(grade: str, short: str, words: str) -> None:
    assert (published.short(grade), published.known(grade)) == (short, words)


def test_no_number_rests_on_memory() -> None:
    grades = set(published.read(PUBLISHED)["confidence_grade"])
    assert grades == {"A", "B", "B; half-width C"}
