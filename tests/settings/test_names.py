"""The names of the package `settings` are declared once for type checkers and once for use; both say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from firstorder import settings

DECLARED = Path(settings.__file__).with_name("__init__.pyi").read_text(encoding="utf-8")


def test_every_declared_name_comes_from_the_module_that_is_declared() -> None:
    declared = re.findall(r"^from firstorder\.settings\.(\w+) import (\w+) as (\w+)$", DECLARED, re.MULTILINE)
    assert len(declared) == len(DECLARED.splitlines())
    assert {name: module for module, name, _ in declared} == settings._HOMES
    for module, name, again in declared:
        assert name == again
        assert getattr(settings, name) is getattr(import_module(f"firstorder.settings.{module}"), name)


def test_an_unknown_name_is_none() -> None:
    with pytest.raises(AttributeError, match=r"module 'firstorder\.settings' has no attribute 'Nothing'"):
        _ = settings.Nothing  # type: ignore[attr-defined]


def test_importing_the_package_imports_none_of_its_modules() -> None:
    program = "import sys, firstorder.settings; print(*(name for name in sys.modules if name.startswith('firstorder')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["firstorder", "firstorder.settings"]
