"""Import rules that the contracts in pyproject.toml (`make lint`) cannot express: what is imported when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/firstorder"
BASE = {"errors", "files", "progress", "settings", "cli"}


def name_of(path: Path) -> str:
    """Return a module's dotted name below the package: `settings.schema`, `report.text.tables`, `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(tree: ast.AST) -> set[str]:
    """Return the dotted names of everything imported anywhere in `tree`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str]) -> set[str]:
    """Reduce imported names to rooms of the package: `firstorder.report.text.tables.write` becomes `report`."""
    parts = [name.split(".") for name in names]
    found = {part[1] for part in parts if part[0] == "firstorder" and len(part) > 1}
    return {room for room in found if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def at_import(path: Path) -> ast.Module:
    """Return the part of a module that runs at import: without bodies of functions and `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for holder in [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)]:
        holder.body = [
            node
            for node in holder.body
            if not isinstance(node, ast.FunctionDef)
            and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ]
    return tree


def test_every_import_is_written_in_full() -> None:
    assert len(MODULES) > 80
    for path in MODULES.values():
        imported_by(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in ("cli", "__main__")])
def test_the_command_line_imports_slow_modules_inside_its_verbs(name: str) -> None:
    imported = imported_by(at_import(MODULES[name]))
    assert rooms(imported) <= BASE
    others = {name.split(".")[0] for name in imported} - {"firstorder"}
    assert others <= sys.stdlib_module_names


def test_the_rules_of_the_workflow_import_only_light_modules() -> None:
    rules = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
    assert len(rules) > 1
    for path in rules:
        imports = re.findall(r"^\s*(?:from|import)\s+firstorder\b.*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        allowed = {
            "from firstorder import settings",
            "from firstorder.errors import UserError",
            "from firstorder.records import freshness",
            "from firstorder.report.text import captions",
            "from firstorder.settings import checks",
            "from firstorder.upkeep import locks, passing, without_times",
        }
        assert {line.strip() for line in imports} <= allowed, path.name


def test_settings_results_and_report_work_where_torch_cannot_be_imported() -> None:
    light = ("settings", "report", "data", "upkeep")
    names = [name for name in MODULES if name.split(".")[0] in light or name == "records.cells"]
    assert len(names) > 40
    program = "import importlib, sys\nsys.modules['torch'] = None\n" + "".join(
        f"importlib.import_module('firstorder.{name.removesuffix('.__init__')}')\n" for name in names
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_snakemake_imports_is_light() -> None:
    """Snakemake loads the settings for every job, so they must not import arrays, tables or plotting."""
    names = "firstorder.records.freshness, firstorder.upkeep.locks, firstorder.settings.checks"
    program = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "matplotlib", "seaborn", "PIL"} & set(done.stdout.split())
