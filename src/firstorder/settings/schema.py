"""Makes frozen dataclasses of what YAML gives, checking keys, types and ranges. Every error is one line for the user.

A number between quotes is accepted where a number is expected. What the settings mean is declared in trainings.py,
studies.py, report.py and project.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from firstorder.errors import UserError

Built = TypeVar("Built")
Limits = Mapping[str, float | None]

_SHOWN = 200  # characters of a wrong value in a message
LARGEST_SEED = 2**32 - 1
PLAIN = {int: "a whole number", float: "a number", str: "a text"}


def setting(
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declare one setting: what it means (with the paper's symbol) and its range."""
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits})


def _shown(value: object) -> str:
    """Return a value as Python writes it, cut where a line gets too long to read."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def nearest(name: object, known: Iterable[str], most: int = 1) -> str:
    """Return ` (did you mean 'x'?)` with the most similar known names, or an empty text if none is similar."""
    import difflib  # for errors only, as importing it takes a millisecond

    close = difflib.get_close_matches(str(name)[:_SHOWN], list(known), n=most, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def check_reference(place: str, what: str, name: str, section: str, known: Collection[str]) -> None:
    """Raise UserError if an entry refers to a `name` that `section` does not have."""
    if name not in known:
        listed = ", ".join(known) or "none"
        where = f"{place}: {what} {name!r} is not under `{section}`"
        raise UserError(f"{where}{nearest(name, known)}; known are: {listed}")


def build(cls: type[Built], values: Any, where: str) -> Built:
    """Make the dataclass `cls`, whose fields are `setting`s, from a mapping.

    Raises UserError, naming the place (it starts with `where`), if `values` is not a mapping, has an unknown key (the
    nearest known one is named), lacks a key, or has a value of the wrong type or out of range.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {_shown(key)}{nearest(key, fields)}; known are: {', '.join(fields)}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise UserError(f"{where}: key {name!r} is missing ({field.metadata['help']})")
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy thinks that a class is not hashable
    built = {
        name: _convert(hints[name], value, f"{where}: {name}", fields[name].metadata["limits"])
        for name, value in values.items()
    }
    return cls(**built)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; evaluating the annotations takes time, so do it once per class."""
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str, limits: Limits) -> Any:
    """Check one value against its type and range, and return it in that type."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _convert(inner[0], value, where, limits)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            near = nearest(value, get_args(hint))
            raise UserError(f"{where}: expected one of {', '.join(get_args(hint))}, found {_shown(value)}{near}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, found {_shown(value)}")
        return tuple(_convert(get_args(hint)[0], v, f"{where}[{i}]", limits) for i, v in enumerate(value))
    if get_origin(hint) is dict:
        return _convert_named(get_args(hint)[1], value, where, limits)
    number = _plain(hint, value, where)
    if hint is not str:
        _check_range(number, where, limits)
    return number


def _convert_named(hint: Any, value: Any, where: str, limits: Limits) -> dict[str, Any]:
    """Check a mapping whose keys are names chosen by the user."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of names, found {_shown(value)}")
    for name in value:
        if not isinstance(name, str):
            raise UserError(f"{where}: expected a text as name, found {_shown(name)}; put it between quotes")
    return {name: _convert(hint, entry, f"{where}: {name}", limits) for name, entry in value.items()}


def _plain(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as int, float or str; a bool is refused, although Python counts it as an int."""
    allowed: tuple[type, ...] = (int, float) if hint is float else (hint,)
    try:
        if hint is float and isinstance(value, str):
            value = float(value) if value.isascii() and "_" not in value else value  # "1e-3", between quotes
        if isinstance(value, allowed) and not isinstance(value, bool):
            return hint(value)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{where}: expected {PLAIN[hint]}, found {_shown(value)}")


def _check_range(value: float, where: str, limits: Limits) -> None:
    low, high, above, below = (limits[name] for name in ("at_least", "at_most", "above", "below"))
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found {_shown(value)}")
    if low is not None and value < low:
        raise UserError(f"{where}: expected at least {low}, found {_shown(value)}")
    if above is not None and value <= above:
        raise UserError(f"{where}: expected more than {above}, found {_shown(value)}")
    if below is not None and value >= below:
        raise UserError(f"{where}: expected less than {below}, found {_shown(value)}")
    if high is not None and value > high:
        raise UserError(f"{where}: expected at most {high}, found {_shown(value)}")
