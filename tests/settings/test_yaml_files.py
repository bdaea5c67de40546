"""Damaged and malicious YAML ends in one line with the file's name, soon and in little memory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from firstorder.errors import UserError
from firstorder.settings.checks import load
from firstorder.settings.project import Project
from firstorder.settings.schema import build
from firstorder.settings.yaml_files import parse_yaml
from tests.conftest import TINY_PARAMS, TRAINING, write_params

ROOT = Path(__file__).parents[2]
STUDIES = [f"studies/second-moments/{kind}/params.yaml" for kind in ("carried", "per-lane")]

NINE = [", ".join([f"*a{i}"] * 9) for i in range(11)]
LAUGHS = ["&a0 {x: 1}", *(f"&a{i} [{nine}]" for i, nine in enumerate(NINE, 1))]
MERGES = "\n".join(["a0: &a0 {k: 1}", *(f"a{i}: &a{i} {{<<: [{nine}]}}" for i, nine in enumerate(NINE, 1))])
TEXTS = {
    "empty !!int": "seeds: !!int ''",
    "sign only": "seeds: !!int '-'",
    "no digits": "seeds: !!int 0x",
    "no float": "seeds: !!float ''",
    "no bool": "title: !!bool perhaps",
    "no time": "title: !!timestamp yesterday",
    "no binary": "title: !!binary '*'",
    "binary": "title: !!binary AAA=",
    "map of a scalar": "title: !!map x",
    "set of a list": "title: !!set [a]",
    "omap": "title: !!omap [a]",
    "pairs": "title: !!pairs {a: 1}",
    "unknown tag": "title: !!python/object/apply:os.system [true]",
    "impossible date": "title: 2020-13-45",
    "10^30": f"seeds: [{10**30}]",
    "-10^30": f"seeds: [-{10**30}]",
    "5,000 digits": f"seeds: [{'9' * 5000}]",
    "5,000 hexadecimal digits": f"seeds: [0x{'f' * 5000}]",
    "base 60": f"seeds: [1{':59' * 300}]",
    "10^400": "seeds: [1.0e400]",
    "brackets": "title: " + "[" * 3000,
    "braces": "title: " + "{a: " * 3000,
    "dashes": "- " * 3000,
    "indents": "".join(f"{' ' * i}a:\n" for i in range(400)),
    "nested and closed": "title: " + "[" * 500 + "]" * 500,
    "merges": MERGES,
    "laughs": f"title: [{', '.join(LAUGHS)}]",
    "laughs as keys": "\n".join(f"? {value}\n: 1" for value in LAUGHS),
    "holds itself": "&a [*a]",
    "merges itself": "&a {<<: *a}",
    "an alias of nothing": "title: *nothing",
    "list as key": "? [a]\n: 1",
    "null byte": "title: \0",
    "two documents": "a: 1\n---\nb: 1",
    "a list": "[]",
    "nothing": "",
    "a long unknown key": f"{'k' * 1000}: 1",
    "a long value": f"seeds: {'v' * 10000}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_is_one_line_with_the_files_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 600
    assert "\n" not in message
    assert " at 0x" not in message


def test_the_line_of_a_wrong_value_is_named() -> None:
    with pytest.raises(ValueError, match="line 3: not valid YAML: expected a value of kind int, found ''"):
        parse_yaml("a: 1\nb:\n  c: !!int ''\n")


def test_ordinary_anchors_and_numbers_are_read() -> None:
    text = "a: &a {x: 1, y: [0x10, 1000, -9223372036854775807]}\nb: {<<: *a, x: 2}\nc: null"
    read = parse_yaml(text)
    assert read["b"] == {"x": 2, "y": [16, 1000, 1 - 2**63]}


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "large", "latin-1"])
def test_what_is_no_small_file_is_not_read(what: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "latin-1":
        path.write_bytes("title: \xe9".encode("latin-1"))
    else:
        path.write_text("a" * (10**6 + 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml: .*expected|save it as UTF-8"):
        load(path)


# --- What the two versions of YAML read differently ---


@pytest.mark.parametrize(
    ("text", "older", "newer"),
    [
        *(("0640", "416", "640"), ("-017", "-15", "-17"), ("12:00", "720", "the text '12:00'")),
        *(("2:15.5", "135.5", "the text '2:15.5'"), ("0b101", "5", "the text '0b101'")),
        *(("-0x1f", "-31", "the text '-0x1f'"), ("0x_1f", "31", "the text '0x_1f'")),
        *(("12_000", "12000", "the text '12_000'"), ("1_2.5", "12.5", "the text '1_2.5'")),
        *(("Yes", "true", "the text 'Yes'"), ("off", "false", "the text 'off'"), ("NO", "false", "the text 'NO'")),
        *(("09", "the text '09'", "9"), ("0o10", "the text '0o10'", "8"), ("+08", "the text '+08'", "8")),
        *(("2019-03-04", "the date 2019-03-04", "the text '2019-03-04'"), ("!!int 0640", "416", "640")),
        *(('!!int "0640"', "416", "640"), ("!!bool on", "true", "the text 'on'"), ("!!null x", "null", "the text 'x'")),
    ],
)
@pytest.mark.parametrize("place", ["a:\n  b: {}", "a: 1\n{}: 2", "a: 1\nb: [3, {}]", "a: 1\nb: &x {}\nc: *x"])
def test_what_two_versions_of_yaml_read_differently_is_refused(text: str, older: str, newer: str, place: str) -> None:
    """Whoever wrote 0640 would get 416 tasks, and another program 640."""
    with pytest.raises(ValueError, match=r"^line 2: ") as error:
        parse_yaml(place.format(text))
    assert f" is {older} in YAML 1.1 and {newer} in YAML 1.2; " in str(error.value)
    assert str(error.value).endswith("put it between quotes")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("0", 0),
            ("-7", -7),
            ("+7", 7),
            ("00", 0),
            ("07", 7),
            ("0x1F", 31),
            ("0.5", 0.5),
            ("-.5", -0.5),
            ("1.", 1.0),
        ),
        *(("1e-3", 0.001), ("1E3", 1000.0), ("2.5e3", 2500.0), ("012.5", 12.5), ("true", True), ("False", False)),
        *(("~", None), ("null", None), ("", None), ("'0640'", "0640"), ('"yes"', "yes"), ("!!str 0640", "0640")),
        *(("y", "y"), ("1.2.3", "1.2.3"), ("1-2", "1-2"), ("one", "one"), ("12:ab", "12:ab"), ("_1", "_1")),
    ],
)
def test_what_both_versions_of_yaml_read_alike_is_read(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["'1_000'", "'\u0663'", '"1:30"'])
def test_a_text_that_is_no_plain_number_is_no_setting(text: str, tmp_path: Path) -> None:
    values = json.loads(json.dumps(TINY_PARAMS))
    values["trainings"][TRAINING]["inner_learning_rate"] = "RATE"
    write_params(tmp_path, values)
    path = tmp_path / "params.yaml"
    path.write_text(re.sub("[\"']?RATE[\"']?", text, path.read_text()), encoding="utf-8")
    with pytest.raises(UserError, match="inner_learning_rate: expected a number"):
        load(path)


@pytest.mark.parametrize("name", ["params.yaml", "quick/params.yaml", "reduced/params.yaml", *STUDIES])
def test_the_files_in_this_repository_are_read_as_pyyaml_reads_them(name: str) -> None:
    """So that no digest of a setting moved: PyYAML's text `1e-3` was made the same number before."""
    text = (ROOT / name).read_text(encoding="utf-8")
    before = build(Project, yaml.load(text, Loader=yaml.SafeLoader), name)
    assert build(Project, parse_yaml(text), name) == before
