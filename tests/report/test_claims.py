"""Claims: the repository's file is complete, and a damaged one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder.errors import UserError
from firstorder.report.claims import claims
from firstorder.report.read import published
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import FIVE_SHOT, ONE_SHOT

CLAIMS = PUBLISHED.with_name("claims.yaml")
VALUE = f"value/{ONE_SHOT}/inductive"
TRANSDUCTION = f"transduction/{ONE_SHOT}"


def test_every_published_number_has_one_claim_of_value() -> None:
    found = claims.read(CLAIMS, published.read(PUBLISHED))
    values = [claim.cells[0] for claim in found.claims.values() if claim.kind == "value"]
    assert len(values) == 24
    assert {about.line for about in values} == set(claims.Paper(PUBLISHED).lines.index)


def test_a_row_of_the_paper_is_one_algorithm_and_mode_in_every_claim() -> None:
    found = claims.read(CLAIMS, published.read(PUBLISHED))
    cells = [about for claim in found.claims.values() for about in claim.cells]
    assert {(about.row, about.algorithm, about.cell.rpartition("/")[2]) for about in cells} == {
        ("MAML + Transduction", "maml", "transductive"),
        ("1st-order MAML + Transduction", "fomaml", "transductive"),
        ("Reptile", "reptile", "inductive"),
        ("Reptile + Transduction", "reptile", "transductive"),
    }


def test_orders_are_complete() -> None:
    """Six tasks for transduction and for Reptile against FOMAML; four rows by three ways; four rows by two shots."""
    found = claims.read(CLAIMS, published.read(PUBLISHED)).claims
    kinds = [name.split("/")[0] for name, claim in found.items() if claim.kind == "order"]
    expected = {"transduction": 6, "reptile-against-fomaml": 6, "shots": 12, "ways": 8}
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_margins_are_one_point_for_omniglot_and_one_and_a_half_for_mini_imagenet() -> None:
    found = claims.read(CLAIMS, published.read(PUBLISHED))
    assert found.delta_points == {"omniglot": 1.0, "mini-imagenet": 1.5}
    assert found.delta(found.claims[VALUE]) == 0.01


def test_algorithms_that_the_paper_has_within_the_margin_are_claimed_equivalent() -> None:
    """On Omniglot they differ by -0.62, 0.28, 0.03 and -0.78 points, on mini-ImageNet by 1.90 and 2.84."""
    found = claims.read(CLAIMS, published.read(PUBLISHED)).claims
    relations = {name: claim.relation for name, claim in found.items() if name.startswith("reptile-against")}
    for name, relation in relations.items():
        assert relation == ("equivalent" if "omniglot" in name else "above")


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, str, Any], claims.Claims]:
    """Return a function that reads the repository's claims with one key of one claim replaced."""

    def read(name: str, key: str, value: Any) -> claims.Claims:
        values = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
        values["claims"][name][key] = value
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return claims.read(path, published.read(PUBLISHED))

    return read


def about(cell: str, row: str = "Reptile", table: str = "table-2") -> dict[str, str]:
    return {"cell": cell, "row": row, "table": table}


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (VALUE, "sentense", "x", r"unknown key 'sentense' \(did you mean 'sentence'\?\)"),
        (VALUE, "kind", "valu", r"kind: expected one of value, order, theory, found 'valu' \(did you mean 'value'\?\)"),
        (VALUE, "cells", [], "expected 1 for kind value, found 0"),
        (VALUE, "relation", "above", "kind order needs a relation"),
        (VALUE, "cells", [about("reptile/omniglot-5way/1shot")], "expected a cell like .*, found 'reptile/omni"),
        (VALUE, "cells", [about("reptile/omniglot-9way/1shot/inductive")], r"did you mean 'table-2 / Reptile / omni"),
        (f"value/{FIVE_SHOT}/inductive", "cells", [about(f"{ONE_SHOT}/inductive")], f"a second value .*{ONE_SHOT}/ind"),
        (TRANSDUCTION, "relation", "equivalent", r"paper's first minus second is \+2\.29 points .*; it is above"),
        (
            TRANSDUCTION,
            "cells",
            [about(f"{ONE_SHOT}/inductive"), about(f"{ONE_SHOT}/transductive", "Reptile + Transduction")],
            "exchange the two cells",
        ),
        (
            "reptile-against-fomaml/omniglot-5way/5shot",
            "relation",
            "above",
            r"is \+0\.28 points with delta 1; it is equivalent",
        ),
    ],
)
def test_a_damaged_claim_is_refused_by_name(
    edited: Callable[[str, str, Any], claims.Claims], name: str, key: str, value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        edited(name, key, value)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"claims\.yaml: no such file"):
        claims.read(tmp_path / "claims.yaml", published.read(PUBLISHED))
