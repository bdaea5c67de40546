"""Write params.schema.json, which lets an editor explain, complete and check a params.yaml.

Usage: make schema   (or: python tools/write_params_schema.py)

The file is generated from the declarations in src/firstorder/settings/. Run this after changing one of them; a test
fails otherwise. The JSON Schema accepts more than the package does. It covers each setting alone, with its type and
range (as settings/schema.py checks them), but not what involves several settings (settings/checks.py), such as a
reference to a missing entry.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from firstorder import settings

PATH = Path(__file__).parents[1] / "params.schema.json"
COMMENT = "Made by `make schema` from src/firstorder/settings/; edits here are lost."
Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest draft that every editor's YAML support reads
PLAIN = {int: "integer", float: "number", str: "string"}
KEYWORDS = {"at_least": "minimum", "at_most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def written() -> str:
    """Return the text that the file should have."""
    schema = document(settings.Project, "Settings of firstorder (params.yaml)", COMMENT)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def document(cls: type, title: str, comment: str) -> Schema:
    """Return the JSON Schema of a file that holds one `cls`, a dataclass whose fields are `schema.setting`s."""
    definitions: dict[str, Schema] = {}
    top = _mapping(cls, definitions)
    return {
        "$schema": DRAFT,
        "$comment": comment,
        "title": title,
        **top,
        "definitions": dict(sorted(definitions.items())),
    }


def _mapping(cls: type, definitions: dict[str, Schema]) -> Schema:
    """Describe a dataclass: a mapping with these keys and no others."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return {
        "description": " ".join((inspect.getdoc(cls) or "").split()),
        "type": "object",
        "properties": {field.name: _property(hints[field.name], field, definitions) for field in fields},
        "required": [field.name for field in fields if field.default is dataclasses.MISSING],
        "additionalProperties": False,
    }


def _property(hint: Any, field: dataclasses.Field[Any], definitions: dict[str, Schema]) -> Schema:
    """Describe one setting: what it means, its values, and its default unless that is to be absent."""
    described = {"description": field.metadata["help"], **_value(hint, field.metadata["limits"], definitions)}
    if field.default is not dataclasses.MISSING and field.default is not None:
        described["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return described


def _value(hint: Any, limits: Mapping[str, float | None], definitions: dict[str, Schema]) -> Schema:
    """Describe the values that schema.py accepts for a type. A dataclass is described once, in `definitions`."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return _or_nothing(_value(inner[0], limits, definitions))
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type, hint).__name__
        if name not in definitions:
            definitions[name] = _mapping(typing.cast(type, hint), definitions)
        return {"$ref": f"#/definitions/{name}"}
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _value(get_args(hint)[0], limits, definitions)}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _value(get_args(hint)[1], limits, definitions)}
    if hint is str:
        return {"type": "string"}
    bounds = {KEYWORDS[name]: bound for name, bound in limits.items() if bound is not None}
    return {"type": PLAIN[hint], **bounds}


def _or_nothing(schema: Schema) -> Schema:
    """Also allow a key without a value, which counts as absent."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


if __name__ == "__main__":
    PATH.write_text(written(), encoding="utf-8")
    print(PATH)
