"""Section 5 in the report: limits, slopes, what is plotted and printed, and verdicts, on made-up records."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from firstorder.errors import UserError
from firstorder.records.cells import write_rows, write_run
from firstorder.report.claims import claim_tables, claims, theory_claims
from firstorder.report.figures import figures, style
from firstorder.report.read import published, theory
from firstorder.report.read.statistics import Estimate
from firstorder.report.text import page, tables
from firstorder.settings import EXPANSION, INNER_PRODUCTS, Project, digest
from firstorder.studies.expansion import STATED
from tests.report.test_published import PUBLISHED
from tests.studies.test_theory import EXPANSION as EXPANSION_SETTINGS
from tests.synthetic_records import TRAINING, changed_params, make_project

ALPHAS = (0.0005, 0.001, 0.002, 0.004)
SECTION = {
    "expansion": EXPANSION_SETTINGS,
    "inner_products": {"trainings": [TRAINING], "outer_steps": 100, "measurements": 1, "tasks": 100},
}
FIGURE = {"section-5": {"kind": "theory", "title": "Section 5"}}
CAPTIONS = Path(__file__).parents[2] / "workflow/report"
Row = dict[str, Any]


def project_of(root: Path, **changes: Any) -> Project:
    values = {"theory": SECTION, "figures": FIGURE, "evaluations": {}, "tables": {}, "sine": None}
    return make_project(root, changed_params(**{**values, **changes}))


def store_expansion(root: Path, project: Project, change: Callable[[Row], None] = lambda row: None) -> None:
    """Write a record that agrees with the paper: coefficients off by 3 alpha^2 and 4 alpha, remainder 5 alpha^2."""
    rows = []
    for algorithm, stated in STATED.items():
        for k in (2, 3):
            for alpha in ALPHAS:
                row = {"problem": "regression", "algorithm": algorithm, "inner_steps": k}
                row |= {"tasks": 2, "mini_batches": 4, "orders": math.perm(4, k), "learning_rate": alpha}
                row |= {"average_coefficient": stated(k).average + 3 * alpha**2}
                row |= {"inner_coefficient": stated(k).inner + 4 * alpha, "remainder": 5 * alpha**2}
                change(row)
                rows.append(row)
    path = root / EXPANSION
    write_rows(path, list(rows[0]), [list(row.values()) for row in rows])
    write_run(path, {"settings_digest": digest(project.settings_of_theory())})


# Cosine at the start and the end, by algorithm and mini-batches; the inner product is a thousand times as large.
RISES = {
    "reptile": {"trained": (0.1, 0.4), "balanced": (0.2, 0.5)},
    "joint": {"trained": (0.1, -0.2), "balanced": (0.2, 0.3)},
}


def store_products(root: Path, project: Project, seed: int, cosines: Any = None, shift: float = 0.0) -> None:
    """Write the record of one seed: two measurements of each algorithm; `shift` is added to the last cosines."""
    rows = []
    for algorithm, kinds in (cosines or RISES).items():
        for kind, pair in kinds.items():
            for step, value in zip((0, 100), pair, strict=True):
                cosine = value + (shift if step else 0)
                row: Row = {"algorithm": algorithm, "mini_batches": kind, "outer_step": step}
                row |= {"inner_steps": 25 * step, "tasks": 100}
                for name, scale in (("cosine", 1), ("product", 1000)):
                    row |= {name: scale * cosine, f"{name}_standard_error": 0.01 * scale}
                    row |= {
                        f"{name}_change": scale * (cosine - pair[0]),
                        f"{name}_change_standard_error": 0.005 * scale,
                    }
                    row |= {f"{name}_other_tasks": 0.05 * scale}
                rows.append(row)
    path = root / INNER_PRODUCTS.format(training=TRAINING, seed=seed)
    write_rows(path, list(rows[0]), [list(row.values()) for row in rows])
    write_run(path, {"settings_digest": digest(project.settings_of_theory(TRAINING))})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project in tmp_path with a record of the expansion and two seeds of inner products."""
    made = project_of(tmp_path)
    store_expansion(tmp_path, made)
    for seed, shift in ((0, 0.0), (1, 0.002)):
        store_products(tmp_path, made, seed, shift=shift)
    return made


def gathered(root: Path, project: Project) -> pd.DataFrame:
    return figures.KINDS["theory"].gather(root, project, project.figures["section-5"], PUBLISHED)


def drawn(root: Path, project: Project) -> Figure:
    with style.applied():
        return figures.KINDS["theory"].draw(gathered(root, project))


def judged(root: Path, project: Project) -> pd.DataFrame:
    return pd.DataFrame(theory_claims.judge(root, project, PUBLISHED)).set_index("id")


# --- Arithmetic ---


def test_a_limit_is_exact_for_a_cubic() -> None:
    alphas = np.array([1.0, 2.0, 3.0, 5.0])
    assert theory.limit(alphas, 7 - 2 * alphas + 3 * alphas**2 - alphas**3) == pytest.approx(7)


def test_a_slope_is_the_power() -> None:
    alphas = np.array(ALPHAS)
    assert theory.slope(alphas, 5 * alphas**2) == pytest.approx(2)
    assert theory.slope(alphas, 0.1 * alphas) == pytest.approx(1)


def test_a_remainder_of_nothing_has_no_slope() -> None:
    assert math.isnan(theory.slope(np.array(ALPHAS), np.array([0.0, 1.0, 2.0, 3.0])))


def test_coefficients_are_those_at_alpha_zero(tmp_path: Path, project: Project) -> None:
    """At the smallest alpha the second is still off by 4 x 0.0005."""
    data = theory.coefficients(tmp_path, project).set_index(["algorithm", "inner_steps"])
    assert len(data) == 6
    reptile = data.loc[("reptile", 3)]
    assert (reptile["average_stated"], reptile["inner_stated"]) == (3, -3)
    assert (reptile["average_measured"], reptile["inner_measured"]) == pytest.approx((3, -3), rel=1e-12)
    assert data["remainder_slope"].tolist() == pytest.approx([2] * 6)


def test_relative_errors_are_of_what_is_stated(tmp_path: Path) -> None:
    """FOMAML at k = 3: -2 is stated; -2.1 is 5 % off."""
    project = project_of(tmp_path)

    def wrong(row: Row) -> None:
        if (row["algorithm"], row["inner_steps"]) == ("fomaml", 3):
            row["inner_coefficient"] = -2.1

    store_expansion(tmp_path, project, wrong)
    data = theory.coefficients(tmp_path, project).set_index(["algorithm", "inner_steps"])
    assert data.loc[("fomaml", 3), "inner_relative_error"] == pytest.approx(0.05)
    assert data.loc[("fomaml", 2), "inner_relative_error"] == pytest.approx(0, abs=1e-12)


# --- Records ---


@pytest.mark.parametrize("path", [EXPANSION, INNER_PRODUCTS.format(training=TRAINING, seed=1)])
@pytest.mark.parametrize("made", [{"settings_digest": "0" * 16}, {}])
def test_a_record_of_other_settings_is_refused_with_the_command(
    tmp_path: Path, project: Project, path: str, made: Row
) -> None:
    again = "firstorder theory" if path == EXPANSION else f"firstorder inner-products {TRAINING} --seed 1"
    write_run(tmp_path / path, made)
    with pytest.raises(UserError, match=rf"stale, .*; make it again: {again}$") as refused:
        figures.write(tmp_path, project, "section-5", PUBLISHED)
    assert str(tmp_path / path) in str(refused.value)


def test_a_seed_that_params_does_not_list_is_left_out(tmp_path: Path, project: Project) -> None:
    store_products(tmp_path, project, 7)
    assert set(theory.inner_products(tmp_path, project)["seed"]) == {0, 1}


# --- Figure and table ---


def test_coefficients_are_drawn_as_marks_on_the_stated_lines(tmp_path: Path, project: Project) -> None:
    average, inner, *_ = drawn(tmp_path, project).axes
    lines = {line.get_label(): line for line in inner.lines}
    assert lines["stated, maml"].get_xydata().tolist() == [[2, -2], [3, -4]]
    np.testing.assert_allclose(lines["regression, maml"].get_xydata(), [[2, -2], [3, -4]])
    assert lines["stated, maml"].get_color() == style.colour("maml")
    np.testing.assert_allclose(
        {line.get_label(): line for line in average.lines}["regression, reptile"].get_ydata(), [2, 3]
    )


def test_remainders_are_drawn_beside_a_line_of_slope_two(tmp_path: Path, project: Project) -> None:
    axis = drawn(tmp_path, project).axes[2]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axis.lines}
    assert len(lines) == 6 + 1
    np.testing.assert_allclose(lines["regression, maml, k = 2"].get_ydata(), [5 * alpha**2 for alpha in ALPHAS])
    (x1, x2), (y1, y2) = lines["slope 2"].get_data()
    assert math.log(y2 / y1) / math.log(x2 / x1) == pytest.approx(2)
    assert y1 > 5 * ALPHAS[0] ** 2  # above what it is compared with


def test_inner_products_have_a_line_a_seed_and_a_band_over_tasks(tmp_path: Path, project: Project) -> None:
    cosine, balanced, product = drawn(tmp_path, project).axes[3:]
    lines = [line.get_xydata().tolist() for line in cosine.lines if line.get_label() == "reptile, one task"]
    assert lines == [[[0, 0.1], [2500, 0.4]], [[0, 0.1], [2500, pytest.approx(0.402)]]]
    across = [line.get_ydata().tolist() for line in cosine.lines if line.get_label() == "joint, different tasks"]
    assert across == [[0.05, 0.05]] * 2
    assert len(cosine.collections) == 2 * 2  # no band where nothing says how sure it is
    top = max(vertex[1] for vertex in cosine.collections[0].get_paths()[0].vertices)
    assert top == pytest.approx(0.4 + 1.959964 * 0.01, abs=1e-6)
    assert next(line.get_ydata().tolist() for line in balanced.lines if line.get_label() == "joint, one task") == [
        0.2,
        0.3,
    ]
    assert next(line.get_ydata().tolist() for line in product.lines if line.get_label() == "reptile, one task") == [
        100,
        400,
    ]
    assert cosine.get_ylabel() == "Reptile, Omniglot 5-way"


@pytest.mark.parametrize("missing", ["expansion", "inner products"])
def test_what_is_not_recorded_is_said_and_the_rest_is_drawn(tmp_path: Path, missing: str) -> None:
    project = project_of(tmp_path)
    if missing == "expansion":
        store_products(tmp_path, project, 0)
    else:
        store_expansion(tmp_path, project)
    axes = drawn(tmp_path, project).axes
    empty = ["not run" in " ".join(text.get_text() for text in axis.texts) for axis in axes]
    assert empty == ([True] * 3 + [False] * 3 if missing == "expansion" else [False] * 3 + [True] * 3)


def test_the_csv_is_what_is_plotted_and_the_bytes_are_the_same_twice(tmp_path: Path, project: Project) -> None:
    paths = figures.write(tmp_path, project, "section-5", PUBLISHED)
    first = [path.read_bytes() for path in paths]
    written = pd.read_csv(paths[2])
    assert tuple(written.columns) == theory.FRAME
    # Two coefficients of 6, 6 x 4 remainders, 3 panels x 2 seeds x 2 algorithms x 2 kinds of pairs x 2 measurements.
    assert written["panel"].value_counts().to_dict() == {
        "average": 6,
        "inner": 6,
        "remainder": 24,
        "cosine": 32,
        "product": 16,
    }
    assert [path.read_bytes() for path in figures.write(tmp_path, project, "section-5", PUBLISHED)] == first


def test_a_project_with_nothing_recorded_has_figure_and_table_that_say_so(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    assert all(path.stat().st_size > 0 for path in figures.write(tmp_path, project, "section-5", PUBLISHED))
    assert "Not run." in tables.write(tmp_path, project, "theory", PUBLISHED)[1].read_text(encoding="utf-8")


def test_the_table_has_stated_and_measured_coefficients(tmp_path: Path, project: Project) -> None:
    assert tables.names(project) == ["theory"]
    data, markdown, latex = tables.write(tmp_path, project, "theory", PUBLISHED)
    assert list(pd.read_csv(data).columns) == list(theory.COEFFICIENT_TYPES)
    text = markdown.read_text(encoding="utf-8")
    minus = "\N{MINUS SIGN}"
    assert "| regression | Reptile | 3 | 3 | 3.000000 |" in text
    assert f"| {minus}3 | {minus}3.000000 |" in text
    assert "| 2.000 |" in text
    assert "E over 2 tasks and all orders (12 to 24) of k of 4 mini-batches" in text
    assert latex.read_text(encoding="utf-8").count(r" \\") == 1 + 6


def test_without_the_section_there_is_no_theory_table_and_no_claim(tmp_path: Path) -> None:
    project = project_of(tmp_path, theory=None, figures={})
    assert tables.names(project) == []
    assert theory_claims.judge(tmp_path, project, PUBLISHED) == []


# --- Verdicts ---


def test_a_record_that_agrees_holds_everywhere(tmp_path: Path, project: Project) -> None:
    """Two seeds, changes of 0.3 and 0.302 for Reptile, -0.3 and -0.298 jointly: half-width 12.7 x 0.001 = 0.0127."""
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
    """What joint training did under Reptile's name, and the other way round."""
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
        "| 0.301 [0.288, 0.314] | 0.05 | 2 | holds |"
    ) in text
    figures.write(tmp_path, project, "section-5", PUBLISHED)
    tables.write(tmp_path, project, "theory", PUBLISHED)
    shown = page.write(tmp_path, project, CAPTIONS).read_text(encoding="utf-8")
    section = shown.split('<section id="figure-section-5">')[1].split("</section>")[0]
    assert "Claims of section 5" in section
    assert "rises during Reptile" in section


def test_the_repositorys_claims_of_theory_cover_every_coefficient_and_both_trainings() -> None:
    found = claims.read(PUBLISHED.with_name("claims.yaml"), published.read(PUBLISHED))
    about = [claim.theory for claim in found.claims.values() if claim.theory is not None]
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
        ("theory/maml/inner-coefficient", "theory", None, "kind theory goes with `theory`"),
        ("theory/maml/inner-coefficient", "relation", "above", "has neither cells nor a relation beside it"),
        (
            "theory/maml/inner-coefficient",
            "theory",
            {"quantity": "inner_coefficient", "algorithm": "joint"},
            "inner_coefficient is measured of maml and fomaml and reptile, found joint",
        ),
        (
            "theory/maml/inner-coefficient",
            "theory",
            {"quantity": "cosine", "algorithm": "reptile"},
            "mini_batches and relation go with the quantities cosine and product",
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
            "only it",
        ),
    ],
)
def test_a_damaged_claim_is_refused_by_name(tmp_path: Path, name: str, key: str, value: Any, message: str) -> None:
    values = yaml.safe_load(PUBLISHED.with_name("claims.yaml").read_text(encoding="utf-8"))
    values["claims"][name][key] = value
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match=message) as refused:
        claims.read(path, published.read(PUBLISHED))
    assert name in str(refused.value)


def test_claims_without_margins_are_refused(tmp_path: Path) -> None:
    values = yaml.safe_load(PUBLISHED.with_name("claims.yaml").read_text(encoding="utf-8"))
    del values["theory_margins"]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match="no margins for kind theory; give them under theory_margins"):
        claims.read(path, published.read(PUBLISHED))
