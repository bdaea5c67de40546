"""Section `theory` of params.yaml: refused settings, digests, and what the verb writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from firstorder import NUMERICS_VERSION, __main__, settings
from firstorder.errors import UserError
from firstorder.settings import ExpansionSettings, checks, columns
from tests.conftest import ABSENT, TINY_PARAMS, TRAINING, edit, write_params
from tests.studies.test_theory import THEORY


def project(tmp_path: Path, *edits: tuple[tuple[Any, ...], Any]) -> settings.Project:
    values = edit({**TINY_PARAMS, "theory": THEORY}, *((("theory", *path), value) for path, value in edits))
    return checks.load(write_params(tmp_path, values))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("expansion", "learning_rates"), [0.1, 0.2, 0.4], r"learning_rates: expected at least 4, to go to the limit"),
        (("expansion", "learning_rates"), [], r"learning_rates: expected at least 4.*found \[\]"),
        (("expansion", "learning_rates"), [0.1, 0.4, 0.2, 0.8], "learning_rates: expected them ascending"),
        (("expansion", "learning_rates"), [0.0, 0.1, 0.2, 0.3], "learning_rates.*expected more than 0"),
        (("expansion", "inner_steps"), [], "inner_steps: expected at least one and none twice"),
        (("expansion", "inner_steps"), [1], "inner_steps.*expected at least 2, found 1"),
        (("expansion", "inner_steps"), [2, 5], "a task has 4 mini_batches, so k is at most 4; found 5"),
        (("expansion", "problems"), ["regresion"], "did you mean 'regression'"),
        (("expansion", "tasks"), 2000, "2 of 4 mini-batches in every order for 2000 tasks are 24,000 lanes, more"),
        (("inner_products", "measurements"), 3, "outer_steps 4 cannot be cut into 3 equal parts"),
        (("inner_products", "tasks"), 1, "expected at least 2"),
        (("inner_products", "trainings"), ["reptile/omniglot-5wai"], "is not under `trainings` .did you mean"),
        (("expansion", "hidden"), ABSENT, "key 'hidden' is missing"),
    ],
)
def test_inconsistent_settings_are_refused_in_one_line(
    tmp_path: Path, path: tuple[str, ...], value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        project(tmp_path, (path, value))
    assert "theory" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("inner_steps", 1, "expected algorithm: reptile with at least 2 inner_steps"),
        (
            "inner_batch_size",
            12,
            "at least two mini-batches of equally many images a class .* found inner_batch_size 12",
        ),
        ("inner_batch_size", 15, "at least two mini-batches of equally many images a class"),
    ],
)
def test_a_training_that_cannot_be_measured_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    values = edit({**TINY_PARAMS, "theory": THEORY}, (("trainings", TRAINING, key), value))
    with pytest.raises(UserError, match=message):
        checks.load(write_params(tmp_path, values))


def test_a_digest_covers_its_own_part_and_no_other(tmp_path: Path) -> None:
    before = project(tmp_path)
    alphas = project(tmp_path, (("expansion", "learning_rates"), [0.1, 0.2, 0.3, 0.4]))
    tasks = project(tmp_path, (("inner_products", "tasks"), 4))
    values = edit({**TINY_PARAMS, "theory": THEORY}, (("trainings", TRAINING, "outer_steps"), 7))
    longer = checks.load(write_params(tmp_path, values))

    def digests(of: settings.Project) -> tuple[str, str]:
        return settings.digest(of.settings_of_theory()), settings.digest(of.settings_of_theory(TRAINING))

    assert digests(alphas)[0] != digests(before)[0]
    assert digests(alphas)[1] == digests(before)[1]
    assert digests(tasks)[0] == digests(before)[0]
    assert digests(tasks)[1] != digests(before)[1]
    assert digests(longer) == digests(before)  # the section replaces its outer steps


def test_without_the_section_the_verb_says_what_to_add(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["theory"]) == 2
    assert "has no section `theory`; add one" in capsys.readouterr().err


def test_the_verb_writes_the_same_bytes_twice_and_a_run_file(tiny_project: Path) -> None:
    write_params(tiny_project, {**TINY_PARAMS, "theory": THEORY})
    path = tiny_project / settings.EXPANSION
    assert __main__.main(["theory"]) == 0
    first = path.read_bytes()
    assert __main__.main(["theory"]) == 0
    assert path.read_bytes() == first
    assert first.decode().splitlines()[0] == ",".join(columns.EXPANSION)
    run = json.loads(path.with_suffix(".run.json").read_text(encoding="utf-8"))
    assert run["numerics_version"] == NUMERICS_VERSION
    assert run["settings_digest"] == settings.digest(checks.load("params.yaml").settings_of_theory())


def test_every_value_of_the_expansion_changes_its_digest(tmp_path: Path) -> None:
    loaded = project(tmp_path)
    assert loaded.theory is not None
    changes: dict[str, Any] = {
        "seed": 9,
        "problems": ("regression",),
        "tasks": 3,
        "mini_batches": 5,
        "batch_size": 4,
        "hidden": 4,
        "inner_steps": (2,),
        "learning_rates": (0.1, 0.2, 0.3, 0.4),
    }
    assert set(changes) == {field.name for field in dataclasses.fields(ExpansionSettings)}
    found = set()
    for key, value in changes.items():
        changed = dataclasses.replace(loaded.theory.expansion, **{key: value})
        of = dataclasses.replace(loaded, theory=dataclasses.replace(loaded.theory, expansion=changed))
        found.add(settings.digest(of.settings_of_theory()))
    assert len(found | {settings.digest(loaded.settings_of_theory())}) == 1 + len(changes)
