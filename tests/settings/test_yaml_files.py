"""Damaged and malicious YAML ends in one line with the file's name, soon and in little memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firstorder.errors import UserError
from firstorder.settings.checks import load
from firstorder.settings.yaml_files import parse_yaml

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
