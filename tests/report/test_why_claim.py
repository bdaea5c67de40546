"""The explanation of one verdict, on the claims and results of this repository and on made-up ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.report.claims import claim_tables
from firstorder.report.text import why_claim
from firstorder.settings import checks
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, changed_params, make_project, store_record

ROOT = Path(__file__).parents[2]
VALUE = f"value/{ONE_SHOT}/inductive"
NINETY = [0, 0, 0, 0, 50, 50]


def explained(root: Path, wanted: str, published: Path = PUBLISHED) -> str:
    return why_claim.explain(root, checks.load(root / "params.yaml"), wanted, published)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Return a folder in which one cell has two seeds and the claims are judged."""
    project = make_project(tmp_path, changed_params(length="full"))
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: NINETY, 1: NINETY})
    claim_tables.write(tmp_path, project, PUBLISHED)
    return tmp_path


def test_the_verdict_stands_with_its_numbers_rule_date_and_results(judged: Path) -> None:
    text = explained(judged, VALUE)
    lines = text.splitlines()
    assert lines[0] == VALUE
    assert any(line.startswith("verdict                    worse") for line in lines)
    assert "  Ours, %                  90.00" in lines
    assert "whose                      said by the paper" in lines
    assert any(line.startswith("fixed                      since 2026-11-23 13:03 UTC, commit ") for line in lines)
    assert "  margins_points: [1.0, 1.0]" in lines
    record = judged / "results/cells" / ONE_SHOT / "inductive/seed-0.json"
    assert f"rests on                   {record}, seed-1.json (2 of 3 seeds)" in lines
    assert "2.48 times as much" in " ".join(text.split())
    assert text.count("Known before") == 0


def test_a_margin_of_zero_is_shown() -> None:
    assert "\n  margin_points: 0" in explained(
        ROOT / "studies/figure-3/two-step", "learning-curves/two-step-reptile-below-fomaml-finally"
    )
    assert "\n  margin: 0.0\n" in explained(ROOT, "theory/reptile/product/trained")


def test_what_is_not_recorded_names_the_file_to_come(judged: Path) -> None:
    text = explained(judged, VALUE.replace("inductive", "transductive"))
    assert "verdict                    not run" in text
    path = judged / "results/cells" / ONE_SHOT / "transductive/seed-0.json"
    assert f"{ONE_SHOT}/transductive: nothing recorded yet, first {path}" in text


def test_several_claims_are_listed_with_their_ids_and_one_is_explained(judged: Path) -> None:
    """A part of an id, of a sentence or of a verdict names a claim, in capitals or not."""
    text = explained(judged, "TRANSDUCTION helps")
    assert text.startswith("6 claims; name one by its id in [ ]:\n")
    assert "[transduction/reptile/omniglot-5way/1shot]" in text
    assert explained(judged, VALUE.upper()) == explained(judged, VALUE)
    many = explained(judged, "Not run").splitlines()
    assert len(many) == 2 + why_claim.MOST_LISTED
    assert many[-1].startswith("  and ")


def test_all_words_must_be_there_in_any_order(judged: Path) -> None:
    assert explained(judged, "transduction 5shot omniglot-5way helps") == explained(
        judged, "transduction/reptile/omniglot-5way/5shot"
    )


@pytest.mark.parametrize("word", ["fail", "fails", "Fail "])
def test_a_group_of_verdicts_lists_what_the_summary_counts_in_it(judged: Path, word: str) -> None:
    """A value that is worse fails, without the word; and of one claim alone it is a list too."""
    text = explained(judged, word)
    assert text.startswith("1 claim; name one by its id in [ ]:\n  worse")
    assert text.endswith(f"[{VALUE}]")


def test_other_folders_are_searched_for_a_group_only(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    folders = [judged, other / "empty", other]
    (other / "results").mkdir()
    shutil.copy(judged / "results/claims.csv", other / "results")
    found = why_claim.elsewhere(judged, folders, "fail")
    assert found.count("In another folder") == 1
    assert found.endswith(f"[{VALUE}]")
    assert why_claim.elsewhere(judged, folders, "undecidable") == ""
    assert why_claim.elsewhere(judged, folders, "Reptile") == ""


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("typo", "has 'typo' in its id"),
        ("holds", "is counted as 'hold'"),
        ("x" * 5000, f"has '{'x' * 80}...' in its id"),
    ],
)
def test_what_no_claim_has_is_refused(judged: Path, wanted: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"none of the \d+ claims here {re.escape(words)}"):
        explained(judged, wanted)


def test_a_folder_whose_claims_are_not_judged_says_how(tmp_path: Path) -> None:
    make_project(tmp_path)
    with pytest.raises(UserError, match="make report"):
        explained(tmp_path, VALUE)


def folders() -> list[Path]:
    return [path.parents[1] for path in sorted(ROOT.glob("**/results/claims.csv")) if ".work" not in path.parts]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.relative_to(ROOT).as_posix() or ".")
def test_claims_of_every_kind_in_the_repository_are_explained(folder: Path) -> None:
    """With a verdict, and with the rule's date or the word that there is none."""
    for line in claim_tables.read(folder).drop_duplicates(["kind", "relation", "cells"]).iloc[::5].itertuples():
        text = explained(folder, str(line.id), ROOT / "paper/published.csv")
        assert f"\n{'verdict':27}" in text
        assert f"\n{'rests on':27}" in text
        assert f"\n{'fixed':27}" in text
        assert len(max(text.splitlines()[3:], key=len)) < 400


def test_the_command_explains_a_claim_without_a_cell(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--claim", VALUE, "--published", str(PUBLISHED), "--params", str(judged / "params.yaml"), "--", ""]
    assert main(["why", *arguments]) == 0
    assert capsys.readouterr().out.startswith(f"{VALUE}\n")
    assert main(["why", *arguments[:-1], f"{ONE_SHOT}/inductive"]) == 2
    assert "a cell or a claim?" in capsys.readouterr().err
