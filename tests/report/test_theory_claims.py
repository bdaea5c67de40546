"""Claims about section 5: verdicts on made-up records, and claims.yaml's section on theory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from firstorder.errors import UserError
from firstorder.report.claims import claim_tables, paper, theory_claims
from firstorder.report.claims.paper import Paper
from firstorder.report.figures import figures
from firstorder.report.read import published
from firstorder.report.read.statistics import Estimate
from firstorder.report.text import page, tables
from firstorder.settings import Project
from firstorder.studies.expansion import STATED
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import TRAINING
from tests.theory_records import RISES, Row, project_of, recorded_project, store_expansion, store_products

CAPTIONS = Path(__file__).parents[2] / "workflow/report"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return recorded_project(tmp_path)


def judged(root: Path, project: Project) -> pd.DataFrame:
    return pd.DataFrame(theory_claims.judge(root, project, Paper(PUBLISHED).claims)).set_index("id")


def test_a_record_that_agrees_holds_everywhere(tmp_path: Path, project: Project) -> None:
    """Two seeds: changes of 0.3 and 0.302 for Reptile, -0.3 and -0.298 for joint training; half-width 12.7 x 0.001."""
    data = judged(tmp_path, project)
    assert len(data) == 9 + 8
    line = data.loc["theory/reptile/cosine/trained"]
    assert line["theory_measured"] == pytest.approx(0.301)
    assert line["theory_low"] == pytest.approx(0.301 - 12.7062 * 0.001, abs=1e-6)
    assert (line["seeds"], line["tasks_per_seed"], line["theory_training"]) == (2, 100, TRAINING)
    # On balanced mini-batches joint training's cosine rises by 0.1 here.
    failed = {"theory/joint/cosine/balanced", "theory/joint/product/balanced"}
    assert data["verdict"].to_dict() == {name: "fails" if name in failed else "holds" for name in data.index}


@pytest.mark.parametrize(
    ("algorithm", "key", "factor", "failed"),
    [
        ("maml", "inner_coefficient", 0.5, "theory/maml/inner-coefficient"),  # FOMAML's
        ("fomaml", "average_coefficient", 1.01, "theory/fomaml/average-coefficient"),
        ("reptile", "inner_coefficient", 1.002, "theory/reptile/inner-coefficient"),
    ],
)
def test_a_wrong_coefficient_fails_its_claim_and_no_other(
    tmp_path: Path, project: Project, algorithm: str, key: str, factor: float, failed: str
) -> None:
    def wrong(row: Row) -> None:
        if row["algorithm"] == algorithm and row["inner_steps"] == 3:
            row[key] *= factor

    before = judged(tmp_path, project)["verdict"]
    store_expansion(tmp_path, project, wrong)
    after = judged(tmp_path, project)["verdict"]
    assert after[after != before].to_dict() == {failed: "fails"}


@pytest.mark.parametrize("power", [1.0, 1.9, 2.1])
def test_a_remainder_that_falls_with_another_power_fails(tmp_path: Path, project: Project, power: float) -> None:
    def wrong(row: Row) -> None:
        row["remainder"] = row["learning_rate"] ** power

    store_expansion(tmp_path, project, wrong)
    line = judged(tmp_path, project).loc["theory/maml/remainder-slope"]
    assert line["theory_measured"] == pytest.approx(abs(power - 2))
    assert line["verdict"] == "fails"


def test_a_slope_that_could_not_be_taken_fails(tmp_path: Path, project: Project) -> None:
    def wrong(row: Row) -> None:
        row["remainder"] = 0.0

    store_expansion(tmp_path, project, wrong)
    assert judged(tmp_path, project).loc["theory/maml/remainder-slope", "verdict"] == "fails"


@pytest.mark.parametrize(
    ("value", "half_width", "rises", "does_not"),
    [
        (0.3, 0.1, "holds", "fails"),
        (-0.3, 0.1, "fails", "holds"),
        (0.04, 0.005, "fails", "holds"),  # above zero, below the margin
        (0.05, 0.02, "inconclusive", "inconclusive"),
    ],
)
def test_a_change_is_judged_by_where_its_interval_lies(
    value: float, half_width: float, rises: str, does_not: str
) -> None:
    change = Estimate(value, math.nan, half_width, seeds=3)
    assert theory_claims.verdict_of_change(change, "rises", 0.05) == rises
    assert theory_claims.verdict_of_change(change, "does not rise", 0.05) == does_not


def test_an_exchanged_record_fails_both_ways(tmp_path: Path, project: Project) -> None:
    """Joint training's measurements under Reptile's name, and the other way round."""
    swapped = {"reptile": RISES["joint"], "joint": RISES["reptile"]}
    for seed in (0, 1):
        store_products(tmp_path, project, seed, swapped)
    data = judged(tmp_path, project)["verdict"]
    assert {data[f"theory/{name}/{what}/trained"] for name in swapped for what in ("cosine", "product")} == {"fails"}


def test_one_seed_decides_nothing_and_shows_its_interval_over_tasks(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    store_products(tmp_path, project, 2)
    line = judged(tmp_path, project).loc["theory/reptile/cosine/trained"]
    assert line["verdict"] == "inconclusive: one seed"
    assert (line["theory_low"], line["theory_high"]) == pytest.approx((0.3 - 0.0098, 0.3 + 0.0098), abs=1e-5)


def test_nothing_recorded_is_not_run(tmp_path: Path) -> None:
    assert set(judged(tmp_path, project_of(tmp_path))["verdict"]) == {"not run"}


def test_claims_are_written_and_stand_beside_the_figure(tmp_path: Path, project: Project) -> None:
    csv, markdown = claim_tables.write(tmp_path, project, PUBLISHED)
    assert "theory/maml/average-coefficient" in csv.read_text(encoding="utf-8")
    text = markdown.read_text(encoding="utf-8")
    assert "**Claims of section 5**" in text
    assert "Verdicts: 15 holds, 2 fails." in text
    assert (
        "| The cosine of gradients of different mini-batches of a task rises during Reptile. | Reptile, Omniglot 5-way "
        "| ours | 0.301 [0.288, 0.314] | 0.05 | 2 | — | holds |"
    ) in text
    figures.write(tmp_path, project, "section-5", PUBLISHED)
    tables.write(tmp_path, project, "theory", PUBLISHED)
    shown = page.write(tmp_path, project, CAPTIONS).read_text(encoding="utf-8")
    section = shown.split('<section id="figure-section-5">')[1].split("</section>")[0]
    assert "Claims of section 5" in section
    assert "rises during Reptile" in section


def test_the_repositorys_claims_of_theory_cover_every_coefficient_and_both_trainings() -> None:
    found = paper.read(PUBLISHED.with_name("claims.yaml"), published.read(PUBLISHED))
    about = [claim.theory for claim in found.entries.values() if claim.theory is not None]
    coefficients = {(claim.algorithm, claim.quantity) for claim in about if claim.relation is None}
    quantities = ("average_coefficient", "inner_coefficient", "remainder_slope")
    assert coefficients == {(algorithm, quantity) for algorithm in STATED for quantity in quantities}
    relations = {(claim.algorithm, claim.relation) for claim in about if claim.relation is not None}
    assert relations == {("reptile", "rises"), ("joint", "does not rise")}
    assert found.theory_margins is not None
    assert found.theory_margins.slope == 0.05


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("theory/maml/inner-coefficient", "theory", None, "kind theory needs the key `theory`"),
        ("theory/maml/inner-coefficient", "relation", "above", "may have neither cells nor a relation"),
        (
            "theory/maml/inner-coefficient",
            "theory",
            {"quantity": "inner_coefficient", "algorithm": "joint"},
            "inner_coefficient is measured for maml and fomaml and reptile, found joint",
        ),
        (
            "theory/maml/inner-coefficient",
            "theory",
            {"quantity": "cosine", "algorithm": "reptile"},
            "the quantities cosine and product need mini_batches and relation",
        ),
        (
            "theory/reptile/cosine/trained",
            "theory",
            {"quantity": "cosin", "algorithm": "reptile"},
            "did you mean 'cosine'",
        ),
        (
            "transduction/reptile/omniglot-5way/1shot",
            "theory",
            {"quantity": "cosine", "algorithm": "reptile"},
            "only allowed with kind theory",
        ),
    ],
)
def test_a_damaged_claim_is_refused_by_name(tmp_path: Path, name: str, key: str, value: Any, message: str) -> None:
    values = yaml.safe_load(PUBLISHED.with_name("claims.yaml").read_text(encoding="utf-8"))
    values["claims"][name][key] = value
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match=message) as refused:
        paper.read(path, published.read(PUBLISHED))
    assert name in str(refused.value)


def test_claims_without_margins_are_refused(tmp_path: Path) -> None:
    values = yaml.safe_load(PUBLISHED.with_name("claims.yaml").read_text(encoding="utf-8"))
    del values["theory_margins"]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match="no margins for kind theory; give them under theory_margins"):
        paper.read(path, published.read(PUBLISHED))
