"""Claims about final accuracies and simulations: contrasts, bounds, and verdicts near the margins."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from firstorder.errors import UserError
from firstorder.records.cells import write_run
from firstorder.records.row_files import write_rows
from firstorder.report.claims import curve_claims, paper, simulation_claims
from firstorder.report.claims.curve_claims import CurveClaim
from firstorder.report.claims.simulation_claims import SimulationClaim
from firstorder.report.read import curves, published
from firstorder.report.read.statistics import Estimate
from firstorder.settings import CURVE, MANIFOLD_POINTS, Project, checks, digest
from tests.report.test_published import PUBLISHED
from tests.sweep_records import BASE, G1, G2, G4, SUM2, SUM4, store_final, sweep_project, swept
from tests.synthetic_records import (
    CURVE_COLUMNS,
    FIVE_SHOT,
    ONE_SHOT,
    PARAMS,
    TRAINING,
    make_project,
    store_curve,
    store_record,
    store_sine,
)

ROOT = Path(__file__).parents[2]
DECLARED: dict[str, Any] = {"sentence": "So it is.", "origin": "ours", "known": "nothing"}
ORDER = CurveClaim(kind="curves", relation="above", **DECLARED, margin_points=10, higher=(G2,), lower=(G1,))
DROP = CurveClaim(
    kind="shape",
    relation="drops",
    **DECLARED,
    margin_points=2,
    sweep="inner-steps",
    variant="shared",
    before=(2, 4),
    after=(5, 10),
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return sweep_project(tmp_path)


def judged(root: Path, project: Project, claim: CurveClaim) -> dict[str, Any]:
    (row,) = curve_claims.judge(root, project, {"a-claim": claim})
    return row


def estimate_of(value: float, half_width: float, seeds: int = 3) -> Estimate:
    return Estimate(value, 0.0, half_width, seeds)


def test_an_order_is_the_difference_of_final_accuracies(tmp_path: Path, project: Project) -> None:
    """0.8 - 0.5 with 0.01 each over tasks: half-width 1.96 * 0.01414."""
    store_final(tmp_path, project, {G1: 0.5, G2: 0.8})
    row = judged(tmp_path, project, ORDER)
    assert row["judged_fraction"] == pytest.approx(0.3)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(1.96 * 0.014142, rel=1e-3)
    assert (row["seeds"], row["tasks_per_seed"], row["verdict"]) == (1, 50, "holds (one seed)")
    assert row["cells"] == f"{G2} against {G1}"


def test_gains_are_compared_by_two_trainings_a_side(tmp_path: Path, project: Project) -> None:
    """(0.9 - 0.7) - (0.85 - 0.8) = 0.15."""
    store_final(tmp_path, project, {SUM2: 0.7, SUM4: 0.9, G2: 0.8, G4: 0.85})
    gain = CurveClaim(kind="curves", relation="above", **DECLARED, margin_points=0, higher=(SUM4, G2), lower=(SUM2, G4))
    assert judged(tmp_path, project, gain)["judged_fraction"] == pytest.approx(0.15)


def test_with_several_seeds_the_interval_is_over_seeds(tmp_path: Path, project: Project) -> None:
    """Differences 0.3, 0.32, 0.34: Student with two degrees of freedom, 4.303 * 0.02 / sqrt(3)."""
    for seed in range(3):
        store_final(tmp_path, project, {G1: 0.5, G2: 0.8 + 0.02 * seed}, seed)
    row = judged(tmp_path, project, ORDER)
    assert row["judged_fraction"] == pytest.approx(0.32)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3)
    assert (row["seeds"], row["verdict"]) == (3, "holds")


def test_only_seeds_that_all_trainings_have_count(tmp_path: Path, project: Project) -> None:
    store_final(tmp_path, project, {G1: 0.5, G2: 0.8}, 0)
    store_final(tmp_path, project, {G2: 0.1}, 1)
    assert judged(tmp_path, project, ORDER)["judged_fraction"] == pytest.approx(0.3)


def test_a_shape_is_the_mean_before_minus_the_mean_after(tmp_path: Path, project: Project) -> None:
    """(0.9 + 0.8) / 2 - (0.7 + 0.5) / 2 = 0.25; errors 0.01 * sqrt(4 / 4)."""
    members = swept(project, "inner-steps", "shared")
    store_final(tmp_path, project, dict(zip((members[k] for k in (2, 4, 5, 10)), (0.9, 0.8, 0.7, 0.5), strict=True)))
    row = judged(tmp_path, project, DROP)
    assert row["judged_fraction"] == pytest.approx(0.25)
    assert row["half_width_tasks_fraction"] == pytest.approx(1.96 * 0.01, rel=1e-3)
    assert row["verdict"] == "holds (one seed)"


def test_a_shape_with_a_point_that_is_not_run_is_not_judged(tmp_path: Path, project: Project) -> None:
    members = swept(project, "inner-steps", "shared")
    store_final(tmp_path, project, {members[2]: 0.9, members[4]: 0.8, members[5]: 0.7})
    assert judged(tmp_path, project, DROP)["verdict"] == "not run"


@pytest.mark.parametrize(
    ("relation", "value", "expected"),
    [
        ("drops", 0.05, "holds"),
        ("drops", 0.00, "fails"),
        ("drops", 0.02, "inconclusive"),
        ("stays", 0.05, "fails"),
        ("stays", 0.00, "holds"),
        ("stays", 0.02, "inconclusive"),
        ("stays", -0.3, "holds"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side_of_the_margin(
    relation: Any, value: float, expected: str
) -> None:
    claim = CurveClaim(**{**vars(DROP), "relation": relation})
    assert curve_claims.verdict(estimate_of(value, 0.01), claim) == expected
    assert curve_claims.verdict(Estimate(value, 0.01, float("nan"), 1), claim) == f"{expected} (one seed)"


def test_the_best_of_each_side_is_compared_and_one_that_diverges_decides_nothing(
    tmp_path: Path, project: Project
) -> None:
    """max(0.2, 0.9) - max(0.7, 0.85) = 0.05, where the sums differ by -0.45."""
    store_final(tmp_path, project, {G1: 0.2, G2: 0.9, SUM2: 0.7, SUM4: 0.85})
    best = CurveClaim(kind="best", relation="above", **DECLARED, margin_points=2, higher=(G1, G2), lower=(SUM2, SUM4))
    row = judged(tmp_path, project, best)
    assert row["judged_fraction"] == pytest.approx(0.05)
    assert row["half_width_tasks_fraction"] == pytest.approx(1.96 * 0.014142, rel=1e-3)
    assert row["verdict"] == "holds (one seed)"


def test_the_best_is_chosen_seed_by_seed(tmp_path: Path, project: Project) -> None:
    store_final(tmp_path, project, {G1: 0.9, G2: 0.2, SUM2: 0.5, SUM4: 0.6}, 0)
    store_final(tmp_path, project, {G1: 0.2, G2: 0.8, SUM2: 0.5, SUM4: 0.1}, 1)
    best = CurveClaim(kind="best", relation="above", **DECLARED, margin_points=2, higher=(G1, G2), lower=(SUM2, SUM4))
    assert judged(tmp_path, project, best)["judged_fraction"] == pytest.approx(0.3)


def test_seeds_of_which_something_was_known_are_left_out_of_a_second_verdict(tmp_path: Path, project: Project) -> None:
    """Over all three seeds the difference is 0.2 +- 0.43; over seeds 1 and 2 alone it is 0.3 +- 0."""
    for seed, value in enumerate((0.5, 0.8, 0.8)):
        store_final(tmp_path, project, {G1: 0.5, G2: value}, seed)
    claim = CurveClaim(**{**vars(ORDER), "known": "result of seed 0"})
    row = judged(tmp_path, project, claim)
    assert (row["verdict"], row["verdict_in_advance"]) == ("inconclusive", "holds")
    assert "verdict_in_advance" not in judged(tmp_path, project, ORDER)


def test_the_whole_curve_counts_every_measurement(tmp_path: Path) -> None:
    """Accuracies 0.2, 0.4 and 0.9: the last fifth has the last one, the whole curve a mean of 0.5."""
    values = copy.deepcopy(BASE) | {"outer_steps": 300, "algorithm": "reptile", "inner_steps": 2}
    project = make_project(tmp_path, {**PARAMS, "trainings": {**PARAMS["trainings"], SUM2: values}})
    store_curve(tmp_path, 0, {100: 0.2, 200: 0.4, 300: 0.9}, SUM2, project)
    assert curves.final_accuracies(tmp_path, project, SUM2)["accuracy"].tolist() == [0.9]
    assert curves.final_accuracies(tmp_path, project, SUM2, whole=True)["accuracy"].tolist() == pytest.approx([0.5])


def test_a_gap_is_the_difference_of_the_two_pools_of_one_training(tmp_path: Path) -> None:
    """Meta-train at 0.9 and 0.95, meta-test at 0.7 and 0.85: gaps of 0.2 and 0.1, mean 0.15."""
    project = make_project(tmp_path, {**PARAMS, "length": "full"})
    for seed, pair in enumerate(((0.9, 0.7), (0.95, 0.85))):
        pools = list(zip(("meta-train", "meta-test"), pair, strict=True))
        rows = [(step, pool, "inductive", 5, 50, value, 0.01) for step in (500, 1000) for pool, value in pools]
        path = tmp_path / CURVE.format(training=TRAINING, seed=seed)
        write_rows(path, CURVE_COLUMNS, rows)
        write_run(path, {"settings_digest": digest(project.settings_of_training(TRAINING))})
    gap = CurveClaim(kind="gap", relation="above", **DECLARED, margin_points=0, higher=(TRAINING,))
    curve_claims.check(gap, "a place")
    row = judged(tmp_path, project, gap)
    assert (row["seeds"], row["cells"]) == (2, TRAINING)
    assert row["judged_fraction"] == pytest.approx(0.15)


def test_cells_are_compared_like_trainings(tmp_path: Path) -> None:
    """100 tasks each: 0.96 - 0.95, seed by seed."""
    project = make_project(tmp_path, {**PARAMS, "length": "full"})
    for cell, histogram in ((FIVE_SHOT, [0, 0, 0, 0, 20, 80]), (ONE_SHOT, [0, 0, 0, 0, 25, 75])):
        store_record(tmp_path, project, cell, "inductive", {0: histogram, 1: histogram})
    sides = {"higher": (f"{FIVE_SHOT}/inductive",), "lower": (f"{ONE_SHOT}/inductive",)}
    claim = CurveClaim(kind="curves", relation="above", measure="cell", **DECLARED, margin_points=0, **sides)
    row = judged(tmp_path, project, claim)
    assert (row["judged_fraction"], row["seeds"], row["verdict"]) == (pytest.approx(0.01), 2, "holds")


def test_at_reduced_length_nothing_is_judged_and_what_is_not_listed_is_left_out(tmp_path: Path) -> None:
    project = sweep_project(tmp_path, length="reduced")
    store_final(tmp_path, project, {G1: 0.5, G2: 0.8})
    assert judged(tmp_path, project, ORDER)["verdict"] == "reduced length"
    other = CurveClaim(**{**vars(ORDER), "lower": ("joint/omniglot-20way-g1",)})
    assert curve_claims.judge(tmp_path, project, {"another": other}) == []
    full = sweep_project(tmp_path / "full")
    assert judged(tmp_path / "full", full, other)["verdict"] == "not run"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lower": None}, "kind curves goes with higher, lower, and only these; see lower"),
        ({"sweep": "inner-steps"}, "kind curves goes with higher, lower, and only these; see sweep"),
        ({"relation": "drops"}, "relation above goes with all kinds but shape"),
        ({"higher": (G2, G4)}, "expected as many trainings under lower as under higher, found 1"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=f"a place: {expected}"):
        curve_claims.check(CurveClaim(**{**vars(ORDER), **changes}), "a place")


def test_the_claims_of_the_repository_name_trainings_and_sweeps_that_there_are() -> None:
    project = checks.load(ROOT / "params.yaml")
    stated = paper.read(ROOT / "paper/claims.yaml", published.read(PUBLISHED))
    assert len(stated.curves or {}) > 10
    for name, claim in (stated.curves or {}).items():
        weights = curve_claims.weights_of(claim, project)
        assert weights, name
        assert set(weights) <= set(project.trainings), name
        assert name.split("/")[0] in project.figures
    measured = {claim.measure for claim in (stated.simulations or {}).values()}
    assert measured == set(simulation_claims.MEASURES) - {"reptile-minus-maml"}  # of studies/sine/equal-budget


# --- Simulations


def bound(measure: Any, relation: Any, limit: float) -> dict[str, SimulationClaim]:
    return {"a-claim": SimulationClaim(measure=measure, relation=relation, bound=limit, **DECLARED)}


@pytest.mark.parametrize(
    ("relation", "limit", "expected"),
    [("below", 0.1, "holds"), ("below", 0.001, "fails"), ("over", 0.001, "holds"), ("below", 0.012, "inconclusive")],
)
def test_a_loss_is_judged_in_units_of_predicting_nothing(
    tmp_path: Path, relation: str, limit: float, expected: str
) -> None:
    """Loss 0.05 with standard error 0.005 over 4.2517, the mean square of a wave: 0.0118 +- 0.0023."""
    project = make_project(tmp_path)
    store_sine(tmp_path)
    (row,) = simulation_claims.judge(tmp_path, project, bound("reptile-loss", relation, limit))
    assert row["judged_fraction"] == pytest.approx(0.05 / 4.2517, rel=1e-3)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(1.96 * 0.005 / 4.2517, rel=1e-3)
    assert row["verdict"] == f"{expected} (one seed)"


def test_with_several_seeds_a_loss_is_judged_over_them(tmp_path: Path) -> None:
    """0.05, 0.06 and 0.07 over 4.2517: mean 0.0141, Student's half-width 4.303 * 0.01 / sqrt(3) / 4.2517 = 0.00584."""
    section = {**PARAMS["sine"], "further_seeds": [1, 2]}
    project = make_project(tmp_path, {**PARAMS, "sine": section})
    store_sine(tmp_path, project, [(1, 1.2), (2, 1.4)])
    (row,) = simulation_claims.judge(tmp_path, project, bound("reptile-loss", "below", 0.0201))
    assert row["judged_fraction"] == pytest.approx(0.06 / 4.2517, rel=1e-3)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(0.00584, rel=1e-2)
    assert (row["seeds"], row["verdict"]) == (3, "holds")


def test_reptile_and_maml_are_compared_seed_by_seed(tmp_path: Path) -> None:
    """0.05 - 0.5, then 2 and 4 times that: mean -1.05, Student's half-width 4.303 * sqrt(0.4725) / sqrt(3) = 1.7077.

    Each loss has a wide spread over seeds, but of seeds whose waves are harder both are.
    """
    section = {**PARAMS["sine"], "further_seeds": [1, 2]}
    project = make_project(tmp_path, {**PARAMS, "sine": section})
    store_sine(tmp_path, project, [(1, 2.0), (2, 4.0)])
    (row,) = simulation_claims.judge(tmp_path, project, bound("reptile-minus-maml", "below", 0.02))
    assert row["judged_fraction"] == pytest.approx(-1.05 / 4.2517, rel=1e-4)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(1.7076 / 4.2517, rel=1e-3)
    assert (row["seeds"], row["tasks_per_seed"], row["verdict"]) == (3, 100, "inconclusive")


@pytest.mark.parametrize(("limit", "expected"), [(-0.08, "holds"), (-0.14, "fails"), (-0.106, "inconclusive")])
def test_with_one_seed_their_errors_over_waves_are_added(tmp_path: Path, limit: float, expected: str) -> None:
    """-0.45 +- 1.96 * hypot(0.005, 0.05) = 0.0985, over 4.2517: -0.1058 +- 0.0232."""
    project = make_project(tmp_path)
    store_sine(tmp_path)
    (row,) = simulation_claims.judge(tmp_path, project, bound("reptile-minus-maml", "below", limit))
    assert row["judged_fraction"] == pytest.approx(-0.45 / 4.2517, rel=1e-4)
    assert row["high_fraction"] - row["judged_fraction"] == pytest.approx(0.0985 / 4.2517, rel=1e-2)
    assert row["verdict"] == f"{expected} (one seed)"


def test_the_mean_square_of_a_wave_is_half_that_of_its_amplitude() -> None:
    """A is uniform in [0.1, 5]: E[a^2] = (5^3 - 0.1^3) / (3 * 4.9)."""
    assert pytest.approx(4.2517, abs=1e-4) == simulation_claims.MEAN_SQUARE


def test_what_was_not_simulated_is_not_run_and_what_params_does_not_have_is_left_out(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_sine(tmp_path)
    (row,) = simulation_claims.judge(tmp_path, project, bound("joint-prediction", "below", 0.1))
    assert row["verdict"] == "not run"
    assert simulation_claims.judge(tmp_path, project, bound("manifold-distance", "below", 0.1)) == []


def test_the_distance_left_is_that_of_the_last_iterate_over_the_first(tmp_path: Path) -> None:
    """From 5 away to 0.5 away: 0.1."""
    section = {"inner_learning_rate": 0.2, "inner_steps": 5, "outer_steps": 2, "outer_step_size": 1.0}
    project = make_project(tmp_path, {**PARAMS, "manifolds": {"start": [3.0, 4.0], **section}})
    rows = [("iterate", 0, "", 3, 4), ("iterate", 1, "W1", 0.3, 0.4), ("minimiser", 0, "", 0, 0)]
    write_rows(tmp_path / MANIFOLD_POINTS, ("what", "outer_step", "toward", "x", "y"), rows)
    write_run(tmp_path / MANIFOLD_POINTS, {"settings_digest": digest(project.settings_of_manifolds())})
    (row,) = simulation_claims.judge(tmp_path, project, bound("manifold-distance", "below", 0.2))
    assert (row["judged_fraction"], row["verdict"]) == (pytest.approx(0.1), "holds")
