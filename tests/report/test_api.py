"""The pages of the API say what Python says of the same functions."""

from __future__ import annotations

import html
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import firstorder
from firstorder import library, method
from firstorder.report.site import api

EMPTY = inspect.Parameter.empty


def names(signature: str) -> list[str]:
    return re.findall(r"(?:^|[(,\s])\*{0,2}(\w+): ", signature)


def public(module: ModuleType) -> dict[str, Any]:
    """Return the functions and classes that a module itself defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


def test_the_library_is_shown_as_it_is_offered() -> None:
    shown = {entry.name: entry for entry in api.library().entries}
    assert set(shown) == set(library.__all__) == set(firstorder._LIBRARY)
    for name in ("load", "train"):
        parameters = inspect.signature(getattr(firstorder, name)).parameters
        assert names(shown[name].signature) == list(parameters)
        for parameter in parameters.values():
            if isinstance(parameter.default, int | str):
                assert f"{parameter.name}: {parameter.annotation} = {parameter.default!r}" in shown[name].signature
        first = inspect.getdoc(getattr(firstorder, name)).partition("\n")[0]
        assert first in html.unescape(shown[name].text)
    members = {member.name: member.kind for member in shown["Learner"].members}
    assert {name for name in vars(firstorder.Learner) if not name.startswith("_")} - {"curve"} <= set(members)
    assert (members["adapt"], members["way"], members["curve"]) == ("method", "property", "field")


@pytest.mark.parametrize("name", api.METHOD)
def test_everything_public_of_the_method_is_shown_with_its_arguments(name: str) -> None:
    module = importlib.import_module(f"firstorder.method.{name}")
    shown = {entry.name: entry for entry in api.method(name).entries}
    assert set(shown) == set(public(module))
    for key, value in public(module).items():
        assert shown[key].text
        if inspect.isfunction(value):
            assert names(shown[key].signature) == list(inspect.signature(value).parameters)
        source, line = inspect.getsourcelines(value)
        decorators = next(i for i, text in enumerate(source) if re.match(r"(async )?(def|class) ", text))
        assert shown[key].where == f"src/firstorder/method/{name}.py, line {line + decorators}"


def test_the_modules_of_the_method_come_in_the_order_in_which_they_are_read() -> None:
    assert method.__doc__ is not None
    (told,) = re.findall(r"Read: (.*?)\.", method.__doc__)
    assert tuple(told.split(", ")) == api.METHOD
    folder = Path(method.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(api.METHOD)


def test_a_field_has_the_comment_behind_it() -> None:
    fields = {member.anchor: member for entry in api.library().entries for member in entry.members}
    assert fields["Adapted.support"].signature == "support: Tensor"
    assert fields["Adapted.support"].text == "<p>float32 [images, channels, height, width]</p>"


def test_docstrings_become_paragraphs_lists_and_code_and_are_escaped() -> None:
    doc = """First <b>line</b> with `code`,
    and *stress*: 2 * x * y.

        learner = load("a")

    - one
      more
    - two
    """
    assert api.marked(doc) == (
        "<p>First &lt;b&gt;line&lt;/b&gt; with <code>code</code>, and <em>stress</em>: 2 * x * y.</p>\n"
        "<pre><code>learner = load(&#34;a&#34;)</code></pre>\n"
        "<ul><li>one more</li><li>two</li></ul>"
    )
