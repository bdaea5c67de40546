"""Compare a small fixed training with stored numbers, which may change only together with NUMERICS_VERSION."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from firstorder import NUMERICS_VERSION
from firstorder.method.tasks import TaskShape, draw_tasks
from firstorder.method.training import Problem, outer_step, start
from tests.method.test_training import problem

GOLDEN = Path(__file__).with_name("golden.json")
HOW = (
    "Numbers changed. If this is intended: raise NUMERICS_VERSION, make the records again, say so in CHANGELOG.md, "
    "and store the new values: python -m tests.method.test_golden"
)


def fingerprint(trained: Problem) -> dict[str, object]:
    """Take two outer steps; summarise draws (exactly) and parameters (up to rounding)."""
    state = start(trained)
    initial = state.parameters
    for _ in range(2):
        outer_step(trained, trained.inner, state)
    change = trained.network.named((state.parameters - initial)[0].double())
    moments = trained.network.named(state.optimiser.second_moments[0].double())
    shape = TaskShape(
        pool_classes=50,
        class_images=20,
        way=5,
        support=5,
        query=1,
        inner_steps=7,
        inner_batch_size=15,
        sampling="cycle",
    )
    tasks = draw_tasks(shape, 3, "evaluation", 2, range(4))
    drawn = b"".join(array.astype("<i8").tobytes() for array in (tasks.support, tasks.query, tasks.order))
    return {
        "numerics_version": NUMERICS_VERSION,
        "draws": hashlib.sha256(drawn).hexdigest(),
        "size of the change": {name: float(value.norm()) for name, value in change.items()},
        "second moments": {name: float(value.sum()) for name, value in moments.items()},
    }


def test_no_number_moved_unless_the_version_was_raised(problem):
    """Machines differ by far less than the tolerance; a change of the method differs by far more."""
    stored, found = json.loads(GOLDEN.read_text(encoding="utf-8")), fingerprint(problem)
    assert found["numerics_version"] == stored["numerics_version"], "store the new version's values: " + HOW
    assert found["draws"] == stored["draws"], HOW
    for what in ("size of the change", "second moments"):
        assert found[what] == pytest.approx(stored[what], rel=1e-3), HOW


if __name__ == "__main__":
    torch.set_num_threads(1)
    values = fingerprint(problem.__wrapped__())
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
