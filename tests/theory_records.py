"""A made-up project with section 5's expansion and inner products; nothing in it was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firstorder.records.cells import write_run
from firstorder.records.row_files import write_rows
from firstorder.settings import EXPANSION, INNER_PRODUCTS, Project, digest
from firstorder.studies.expansion import STATED
from tests.studies.test_theory import EXPANSION as EXPANSION_SETTINGS
from tests.synthetic_records import TRAINING, changed_params, make_project

ALPHAS = (0.0005, 0.001, 0.002, 0.004)
SECTION = {
    "expansion": EXPANSION_SETTINGS,
    "inner_products": {"trainings": [TRAINING], "outer_steps": 100, "measurements": 1, "tasks": 100},
}
FIGURE = {"section-5": {"kind": "theory", "title": "Section 5"}}
Row = dict[str, Any]


def project_of(root: Path, **changes: Any) -> Project:
    values = {"theory": SECTION, "figures": FIGURE, "evaluations": {}, "tables": {}, "sine": None}
    return make_project(root, changed_params(**{**values, **changes}))


def store_expansion(root: Path, project: Project, change: Callable[[Row], None] = lambda row: None) -> None:
    """Write a record that agrees with the paper: errors of 3 alpha^2 and 4 alpha, a remainder of 5 alpha^2.

    `change` is applied to each row before it is written.
    """
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


# Cosines at the start and the end, by algorithm and mini-batches; inner products are a thousand times as large.
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
    made = {"settings_digest": digest(project.settings_of_theory(TRAINING))}
    write_run(path, {**made, "training": TRAINING, "seed": seed})


def recorded_project(root: Path) -> Project:
    """Make a project with a record of the expansion and two seeds of inner products."""
    made = project_of(root)
    store_expansion(root, made)
    for seed, shift in ((0, 0.0), (1, 0.002)):
        store_products(root, made, seed, shift=shift)
    return made
