"""Reads YAML that somebody may have damaged or made to do harm. Every error is one line.

YAML accepts a key given twice and keeps the last value: that is an error here. Anchors let a few lines stand for
billions of values: what they stand for is counted before anything is made of it. The two versions of YAML read some
numbers and words differently (0600, 10:00, `on`), and PyYAML follows the older one: those are refused, and numbers
with an exponent (1e-3) are read as the newer one does.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import yaml

from firstorder.errors import UserError
from firstorder.files import Kind, decoded

MOST_BYTES = 10**6  # of a file; ours have a few ten thousand
MOST_VALUES = 10**5  # in a file, with each anchor counted wherever it is used
LARGEST = 2**63  # of whole numbers
_DEEPEST = 100  # levels of brackets and indents
SETTINGS = Kind(
    "a file like params.yaml",
    MOST_BYTES,
    "name another file",
    "no such file; run from the folder of params.yaml or give --params",
)


# What YAML 1.2 (its core schema) reads as a number.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# By kind, what PyYAML takes for one and YAML 1.2 reads as the same value.
_SAME = {
    "int": re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+"),
    "float": _FLOAT,
    "bool": re.compile("true|True|TRUE|false|False|FALSE"),
    "null": re.compile("~|null|Null|NULL|"),
    "timestamp": re.compile("(?!)"),
}
_NEWER = re.compile(r"[-+]?[0-9]+|0o[0-7]+")  # whole numbers by YAML 1.2, also those that PyYAML takes for texts


class _DifferentError(yaml.MarkedYAMLError):
    """A value that the versions of YAML read differently."""


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses keys given twice, deep nesting, numbers without end and values of another kind."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {_DEEPEST} deep",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        has_tag = self.peek_event().tag is not None  # type: ignore[no-untyped-call]
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        kind, text = str(node.tag).rpartition(":")[2], str(node.value)
        is_plain_text = kind == "str" and node.style is None and not has_tag
        if kind in _SAME:
            if not _SAME[kind].fullmatch(text):
                self.refuse(node, text)
        elif is_plain_text and _NEWER.fullmatch(text):
            self.refuse(node, text)
        elif is_plain_text and _FLOAT.fullmatch(text):
            node.tag = "tag:yaml.org,2002:float"
        return node

    def refuse(self, node: yaml.ScalarNode, text: str) -> None:
        """Raise _DifferentError for a value; return if it is none by YAML 1.1, which construct_object says later."""
        try:
            older = self.construct_object(node)
        except yaml.MarkedYAMLError:
            self.recursive_objects.pop(node, None)
            return
        newer: object = f"the text {text[:80]!r}"
        if _NEWER.fullmatch(text):
            newer = int(text.replace("0o", ""), 8 if "o" in text else 10)
            if newer == older:
                return
        read = f"the text {older[:80]!r}" if isinstance(older, str) else json.dumps(older, default=str)
        if isinstance(older, datetime.date):
            read = f"the date {older}"
            advice = "put it between quotes"
        else:
            meant = {bool: "true or false", type(None): "null"}.get(type(older), "a plain decimal number")
            advice = f"write {meant} or, if it is a text, put it between quotes"
        problem = f"{text[:80]!r} is {read} in YAML 1.1 and {newer} in YAML 1.2; {advice}"
        raise _DifferentError(problem=problem, problem_mark=node.start_mark)

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        # Checked before `<<` merges mappings, because an entry may override a key that it merges.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        found: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in found:
                    problem = f"key {key.value!r} is given twice, first in line {found[key.value].line + 1}; remove one"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                found[key.value] = key.start_mark
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except (IndexError, KeyError, AttributeError, TypeError, ValueError, OverflowError):
            value = node  # PyYAML's own conversions do not expect values such as `!!int ''` or `!!bool x`
        if value is node:
            kind = str(node.tag).rpartition(":")[2]
            problem = f"expected a value of kind {kind}, found {str(node.value)[:80]!r}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if isinstance(value, int) and abs(value) >= LARGEST:
            problem = "a whole number of 2^63 or more; expected a smaller one"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values that a node stands for; raises MarkedYAMLError if there are too many or it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = None
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    count = known[id(node)]
    if count is None or count > MOST_VALUES:
        what = "holds itself" if count is None else f"stands for more than {MOST_VALUES:,} values"
        raise yaml.MarkedYAMLError(problem=f"an anchor {what}; write it out", problem_mark=node.start_mark)
    return count


def parse_yaml(text: str) -> Any:
    """Parse YAML; raises ValueError, in one line that names the line of the text, for whatever it is not."""
    try:
        return yaml.load(text, Loader=_Loader)
    except _DifferentError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"{line}not valid YAML: {' '.join(said.split())}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("not valid YAML: nested too deeply") from None


def read_yaml(path: Path, kind: Kind = SETTINGS) -> Any:
    """Read a YAML file; raises UserError if it is missing, no file, too large, not YAML, or gives a key twice."""
    try:
        return parse_yaml(decoded(kind.read(path)))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}; save it as UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
