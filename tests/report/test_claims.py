"""Claims: the repository's file is complete, and a damaged one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder.errors import UserError
from firstorder.report.claims import declared, paper
from firstorder.report.claims.claims import Claims
from firstorder.report.claims.margins import Margins, NearCeiling, margins
from firstorder.report.read import published
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT

CLAIMS = PUBLISHED.with_name("claims.yaml")
VALUE = f"value/{ONE_SHOT}/inductive"
TRANSDUCTION = f"transduction/{ONE_SHOT}"


def test_every_published_number_has_one_claim_of_value() -> None:
    found = paper.read(CLAIMS, published.read(PUBLISHED))
    values = [claim.cells[0] for claim in found.entries.values() if claim.kind == "value"]
    assert len(values) == 24
    assert {about.line for about in values} == set(paper.Paper(PUBLISHED).lines.index)


def test_a_row_of_the_paper_is_one_algorithm_and_mode_in_every_claim() -> None:
    found = paper.read(CLAIMS, published.read(PUBLISHED))
    cells = [about for claim in found.entries.values() for about in claim.cells]
    assert {(about.row, about.algorithm, about.cell.rpartition("/")[2]) for about in cells} == {
        ("MAML + Transduction", "maml", "transductive"),
        ("1st-order MAML + Transduction", "fomaml", "transductive"),
        ("Reptile", "reptile", "inductive"),
        ("Reptile + Transduction", "reptile", "transductive"),
    }


def test_orders_are_complete() -> None:
    """Six tasks for transduction and each pair of algorithms; four rows by three ways; four rows by two shots."""
    found = paper.read(CLAIMS, published.read(PUBLISHED)).entries
    kinds = [name.split("/")[0] for name, claim in found.items() if claim.kind == "order"]
    pairs = {"reptile-against-fomaml": 6, "reptile-against-maml": 6, "fomaml-against-maml": 6}
    expected = {"transduction": 6, **pairs, "shots": 12, "ways": 8}
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_margins_are_points_and_near_the_ceiling_a_ratio_of_errors() -> None:
    """95.39 %: one point. 99.48 %, errors of 0.52 %: 0.25 of them below, 0.2 above. mini-ImageNet: one and a half."""
    found = paper.read(CLAIMS, published.read(PUBLISHED))
    accuracies = paper.Paper(PUBLISHED).lines["accuracy"].to_dict()
    in_points = {
        name: [100 * side for side in vars(found.margins(found.entries[name], accuracies)).values()]
        for name in (VALUE, f"value/{FIVE_SHOT}/transductive", "value/reptile/mini-imagenet-5way/5shot/inductive")
    }
    expected = [[1.0, 1.0], [0.13, 0.104], [1.5, 1.5]]
    for sides, wanted in zip(in_points.values(), expected, strict=True):
        assert sides == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("stated", "below", "above"),
    [
        ([0.98], 0.01, 0.01),  # the border itself is in points
        ([0.99], 0.0025, 0.002),  # 1 % of errors: 1.25 % and 0.8 %
        ([0.97, 0.99], 0.01, 0.01),  # both must be above
        ([0.99, 0.996], 0.001, 0.0008),  # relative to the errors of the second, 0.4 %
    ],
)
def test_a_ratio_of_errors_is_a_margin_to_each_side(stated: list[float], below: float, above: float) -> None:
    found = margins({"omniglot": 1.0}, NearCeiling(above_percent=98, error_ratio=1.25), "omniglot", stated)
    assert (found.below, found.above) == pytest.approx((below, above))
    assert margins({"omniglot": 1.0}, None, "omniglot", stated) == Margins(0.01, 0.01)


def test_algorithms_that_the_paper_does_not_tell_apart_are_claimed_equivalent() -> None:
    """Within the margins: -0.62, 0.03, -0.78 on Omniglot. Beyond them and its half-widths: 0.28 +- 0.21 at 5-shot.

    FOMAML against MAML, 5-way 1-shot: -0.40 is beyond the margin of -0.325, but +- 0.64 in the paper itself.
    """
    found = paper.read(CLAIMS, published.read(PUBLISHED)).entries
    equivalent = {name for name, claim in found.items() if claim.relation == "equivalent"}
    assert equivalent == {
        "reptile-against-fomaml/omniglot-5way/1shot",
        "reptile-against-fomaml/omniglot-20way/1shot",
        "reptile-against-fomaml/omniglot-20way/5shot",
        "reptile-against-maml/mini-imagenet-5way/1shot",
        "fomaml-against-maml/mini-imagenet-5way/1shot",
        "fomaml-against-maml/mini-imagenet-5way/5shot",
        "fomaml-against-maml/omniglot-5way/1shot",
    }


def test_every_claim_says_whose_it_is_and_only_trivial_orders_are_counted_apart() -> None:
    found = paper.read(CLAIMS, published.read(PUBLISHED)).everything()
    apart = {name for name, claim in found.items() if claim.counted == "apart"}
    assert apart == {name for name in found if name.startswith(("shots/", "ways/"))}
    assert len(apart) == 20
    assert {claim.origin for claim in found.values()} == {"paper", "memory", "ours"}


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("nothing", ["nothing", "nothing", "nothing", "nothing"]),
        ("result", ["result", "result", "result", "result"]),
        ("result of seeds 0, 1; curve of seed 2", ["result", "result", "curve", "nothing"]),
    ],
)
def test_what_was_known_is_read_by_seed(text: str, levels: list[str]) -> None:
    """The last level is that of a result without seeds, or of a seed that is not named."""
    known = declared.read_known(text, "a place")
    assert [known.level(seed) for seed in (0, 1, 2)] + [known.level(None)] == levels


@pytest.mark.parametrize(
    "text", ["", "something", "result of seed", "curve of seeds 0 1", "result of seed 0, curve of seed 1", "Nothing"]
)
def test_an_unreadable_known_is_refused_with_its_grammar(text: str) -> None:
    with pytest.raises(UserError, match=r"a place: known: expected nothing, curve or result; with seeds: `result of"):
        declared.read_known(text, "a place")


def test_a_seed_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match="a place: known: names seed 1 twice"):
        declared.read_known("result of seeds 0, 1; curve of seed 1", "a place")


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, str, Any], Claims]:
    """Return a function that reads the repository's claims with one key of one claim replaced."""

    def read(name: str, key: str, value: Any) -> Claims:
        values = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
        values["claims"][name][key] = value
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return paper.read(path, published.read(PUBLISHED))

    return read


def about(cell: str, row: str = "Reptile", table: str = "table-2") -> dict[str, str]:
    return {"cell": cell, "row": row, "table": table}


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (VALUE, "known", "all", "known: expected nothing, curve or result"),
        (VALUE, "origin", "theirs", "origin: expected one of paper, memory, ours, found 'theirs'"),
        (VALUE, "sentense", "x", r"unknown key 'sentense' \(did you mean 'sentence'\?\)"),
        (VALUE, "kind", "valu", r"kind: expected one of value, order, theory, found 'valu' \(did you mean 'value'\?\)"),
        (VALUE, "cells", [], "expected 1 for kind value, found 0"),
        (VALUE, "relation", "above", "kind order needs a relation"),
        (VALUE, "cells", [about("reptile/omniglot-5way/1shot")], "expected a cell like .*, found 'reptile/omni"),
        (VALUE, "cells", [about("reptile/omniglot-9way/1shot/inductive")], r"did you mean 'table-2 / Reptile / omni"),
        (f"value/{FIVE_SHOT}/inductive", "cells", [about(f"{ONE_SHOT}/inductive")], f"a second value .*{ONE_SHOT}/ind"),
        (
            TRANSDUCTION,
            "relation",
            "equivalent",
            r"paper's first minus second is \+2\.29 points, beyond .*; it is above",
        ),
        (
            TRANSDUCTION,
            "cells",
            [about(f"{ONE_SHOT}/inductive"), about(f"{ONE_SHOT}/transductive", "Reptile + Transduction")],
            "exchange the two cells",
        ),
        (
            "reptile-against-fomaml/omniglot-20way/1shot",
            "relation",
            "above",
            r"is \+0\.03 points, within the margins and its own half-widths; it is equivalent",
        ),
    ],
)
def test_a_damaged_claim_is_refused_by_name(
    edited: Callable[[str, str, Any], Claims], name: str, key: str, value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        edited(name, key, value)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["origin", "known", "sentence"])
def test_a_claim_without_what_every_claim_declares_is_refused(tmp_path: Path, key: str) -> None:
    values = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    del values["claims"][VALUE][key]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match=f"{VALUE}: key '{key}' is missing"):
        paper.read(path, published.read(PUBLISHED))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"claims\.yaml: no such file"):
        paper.read(tmp_path / "claims.yaml", published.read(PUBLISHED))
