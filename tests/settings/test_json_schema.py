"""params.schema.json: it accepts what the package accepts, and refuses errors in a single setting."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from firstorder import settings
from firstorder.errors import UserError
from firstorder.settings.checks import load
from firstorder.settings.schema import build
from firstorder.settings.yaml_files import read_yaml
from tests.conftest import ABSENT, EVALUATION, TINY_PARAMS, TRAINING, edit, write_params

ROOT = Path(__file__).parents[2]
FILE = ROOT / "params.schema.json"
FILES = sorted(ROOT.glob("**/params.yaml"))
SCHEMA: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
WHOLE = Draft7Validator(SCHEMA)


def refused(values: Any) -> list[str]:
    """List the errors that the JSON Schema finds, each as place and message."""
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in WHOLE.iter_errors(values)]


def test_the_file_is_up_to_date_with_the_declared_settings() -> None:
    tool = runpy.run_path(str(ROOT / "tools/write_params_schema.py"))
    assert tool["PATH"] == FILE
    assert FILE.read_text(encoding="utf-8") == tool["written"](), "the settings have changed: run `make schema`"


def test_the_file_is_valid_json_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft7Validator.META_SCHEMA["$schema"]


def test_everything_is_described() -> None:
    for name, mapping in {"Project": SCHEMA, **SCHEMA["definitions"]}.items():
        assert mapping["description"], name
        assert mapping["additionalProperties"] is False, name
        for key, value in mapping["properties"].items():
            assert value["description"], f"{name}: {key}"


# --- Accepted ---


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_params_file_of_the_repository_is_accepted(path: Path) -> None:
    assert refused(read_yaml(path)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_of_a_params_file_names_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named, first
    assert (path.parent / named[1]).resolve() == FILE


def test_the_tiny_project_is_accepted() -> None:
    assert refused(TINY_PARAMS) == []


# --- Refused ---

ENTRY = ("trainings", TRAINING)
PLACE = f"trainings/{TRAINING}"

WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "unknown key": ((*ENTRY, "momentum"), 0.9, f"{PLACE}: Additional properties are not allowed ('momentum' was"),
    "unknown section": (("training",), {}, ": Additional properties are not allowed ('training' was unexpected)"),
    "missing key": ((*ENTRY, "way"), ABSENT, f"{PLACE}: 'way' is a required property"),
    "missing section": (("seeds",), ABSENT, ": 'seeds' is a required property"),
    "missing key of a nested entry": ((*ENTRY, "curve", "every"), ABSENT, f"{PLACE}/curve: 'every' is a required"),
    "text for a whole number": ((*ENTRY, "way"), "five", f"{PLACE}/way: 'five' is not of type 'integer'"),
    "fraction for a whole number": ((*ENTRY, "way"), 5.5, f"{PLACE}/way: 5.5 is not of type 'integer'"),
    "bool for a whole number": ((*ENTRY, "way"), True, f"{PLACE}/way: True is not of type 'integer'"),
    "nothing for a number": ((*ENTRY, "way"), None, f"{PLACE}/way: None is not of type 'integer'"),
    "number for a text": (("title",), 5, "title: 5 is not of type 'string'"),
    "number for a list": (("seeds",), 0, "seeds: 0 is not of type 'array'"),
    "text in a list of numbers": (("seeds",), [0, "one"], "seeds/1: 'one' is not of type 'integer'"),
    "list for a mapping of names": (("trainings",), [], "trainings: [] is not of type 'object'"),
    "too small": ((*ENTRY, "way"), 1, f"{PLACE}/way: 1 is less than the minimum of 2"),
    "at a bound that is excluded": ((*ENTRY, "inner_learning_rate"), 0, f"{PLACE}/inner_learning_rate: 0 is less than"),
    "too large": (("datasets", "omniglot", "rotations"), [360], "datasets/omniglot/rotations/0: 360 is greater than"),
    "unknown choice": ((*ENTRY, "sampling"), "circle", f"{PLACE}/sampling: 'circle' is not one of ['cycle', 'rep"),
    "unknown optional choice": ((*ENTRY, "outer_optimiser"), "sgd", f"{PLACE}/outer_optimiser: 'sgd' is not one of"),
    "optional value too small": (("evaluations", EVALUATION, "query"), 0, f"evaluations/{EVALUATION}/query: 0 is less"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_in_one_setting_is_refused_by_schema_and_package(tmp_path: Path, case: str) -> None:
    place, value, expected = WRONG[case]
    values = edit(TINY_PARAMS, (place, value))
    messages = refused(values)
    assert len(messages) == 1
    assert messages[0].startswith(expected), messages
    with pytest.raises(UserError):
        load(write_params(tmp_path, values))


# --- The two checks agree ---


def parts(entry: Any) -> Iterator[Any]:
    """Yield all dataclasses within a value, including itself."""
    if dataclasses.is_dataclass(entry):
        yield entry
        entry = [getattr(entry, field.name) for field in dataclasses.fields(entry)]
    for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list | tuple) else ():
        yield from parts(inner)


# One entry of each dataclass, as in params.yaml. The project is a tiny one, because it is checked with every value.
SAMPLES = {type(part): json.loads(json.dumps(settings.resolved(part))) for part in parts(load(ROOT / "params.yaml"))}
SAMPLES[settings.Project] = TINY_PARAMS
SAMPLES[settings.ImageSettings] = {"size": 28, "channels": 1, "filters": 64}
VALUES: list[Any] = [
    *(None, True, "nonsense", "omniglot", -1, 0, 1, 2, 271, 2**32, 0.5, 1.5, -0.5),
    *([], [0], [1], [-1], [0.5], [360], [2**32], ["nonsense"], [None], [[]], [{}]),
    *({}, {"a": None}, {"a": {}}, {"a": 1}),
    ABSENT,
]


def test_every_dataclass_has_a_sample() -> None:
    assert {cls.__name__ for cls in SAMPLES} == {"Project", *SCHEMA["definitions"]}


def builds(cls: type, values: Any) -> bool:
    try:
        build(cls, values, "here")
    except UserError:
        return False
    return True


@pytest.mark.parametrize("cls", SAMPLES, ids=lambda cls: cls.__name__)
def test_schema_and_package_refuse_the_same(cls: type) -> None:
    """Each setting with each value, except those about which they may differ: `0.5` as text, 5.0 as an integer, nan."""
    part = SCHEMA if cls is settings.Project else SCHEMA["definitions"][cls.__name__]
    validator = Draft7Validator({**part, "definitions": SCHEMA["definitions"]})
    verdicts = set()
    for key in (*(field.name for field in dataclasses.fields(cls)), "unknown"):
        for value in VALUES:
            values = copy.deepcopy(SAMPLES[cls])
            values.pop(key, None)
            if value is not ABSENT:
                values[key] = value
            verdicts.add(builds(cls, values))
            assert validator.is_valid(values) == builds(cls, values), f"{key}: {value!r}"
    assert verdicts == {False, True}
