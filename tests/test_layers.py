"""Who may import whom. Reporting must work without torch and data, and Snakemake needs settings alone.

The table below is the whole truth: a module that is not in it, or that imports what it does not list, fails.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/firstorder"

BASE = {"errors", "files", "progress"}  # import nothing of ours
DATA = BASE | {"settings", "archives", "packs"}
# What each module may import of ours; `report` stands for every module of that folder.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "files": set(),
    "progress": set(),
    "provenance": set(),
    "schema": {"errors"},
    "json_schema": set(),
    "settings": {"__init__", "errors", "schema"},
    "params": {"errors", "schema", "settings"},
    "archives": BASE,
    "packs": {"errors", "files", "settings"},
    "omniglot": DATA,
    "glyphs": DATA,
    "safe_pickle": {"errors"},
    "mini_imagenet_sources": DATA | {"safe_pickle"},
    "mini_imagenet": DATA | {"mini_imagenet_sources"},
    "tasks": {"errors"},
    "architectures": set(),
    "models": {"architectures", "tasks"},
    "inner_loop": set(),
    "expansion": set(),
    "native": {"architectures", "files", "inner_loop"},
    "patches": set(),
    "passes": {"architectures", "models", "patches"},
    "lanes": {"inner_loop", "models", "passes", "patches"},
    "device_draws": {"tasks"},
    "engines": {"errors", "inner_loop", "lanes", "native", "settings"},
    "blocks": {"device_draws", "inner_loop", "tasks", "training"},
    "graphs": {
        "errors",
        "progress",
        "algorithms",
        "blocks",
        "evaluation",
        "inner_loop",
        "lanes",
        "training",
    },
    "algorithms": {"inner_loop"},
    "checkpoints": {"errors", "files", "inner_loop", "models"},
    "evaluation": {"checkpoints", "device_draws", "inner_loop", "lanes", "models", "progress", "settings", "tasks"},
    "training": {
        "errors",
        "progress",
        "algorithms",
        "checkpoints",
        "evaluation",
        "inner_loop",
        "models",
        "settings",
        "tasks",
    },
    "manifolds": {"settings"},
    "probes": {"checkpoints", "evaluation", "inner_loop", "models", "progress", "settings", "tasks"},
    "sine": {"errors", "progress", "algorithms", "inner_loop", "settings", "tasks"},
    "theory": {"errors", "progress", "algorithms", "expansion", "inner_loop", "settings", "sine", "tasks"},
    "inner_products": {"errors", "progress", "evaluation", "inner_loop", "settings", "tasks", "training"},
    "allocator": set(),
    "timing": set(),
    "limits": {"native", "timing"},
    "flops": {"architectures", "settings"},
    "workloads": {"flops", "settings"},
    "jax_reference": {"architectures", "inner_loop", "models", "settings", "tasks"},
    "cases": {
        "architectures",
        "blocks",
        "evaluation",
        "graphs",
        "inner_loop",
        "jax_reference",
        "lanes",
        "models",
        "native",
        "settings",
        "tasks",
        "training",
        "workloads",
    },
    "workers": {"allocator", "cases", "errors", "limits", "timing", "workloads"},
    "bench": {"cases", "files", "flops", "models", "progress", "provenance", "timing", "workers", "workloads"},
    "results": {"errors", "files", "settings"},
    "freshness": {"errors", "results", "settings"},
    "locks": {"errors"},
    "report": {"errors", "expansion", "files", "freshness", "params", "report", "results", "schema", "settings"},
    "findings": set(),
    "stored": {"errors"},
    "recorded": {"errors", "findings", "report", "results", "settings", "stored"},
    "contents": {
        "archives",
        "errors",
        "findings",
        "freshness",
        "omniglot",
        "packs",
        "progress",
        "recorded",
        "results",
        "settings",
        "stored",
    },
    "verify": {"contents", "errors", "findings", "params", "progress", "recorded", "stored"},
    "publish": {"contents", "errors", "freshness", "packs", "results", "settings", "stored", "verify"},
    "estimates": {"flops", "settings"},
    "plan": {"estimates", "freshness", "params", "report", "results", "settings"},
}
# May import torch.
ARITHMETIC = {
    "patches",
    "passes",
    "lanes",
    "device_draws",
    "engines",
    "blocks",
    "graphs",
    "checkpoints",
    "models",
    "inner_loop",
    "native",
    "algorithms",
    "evaluation",
    "training",
    "probes",
    "sine",
    "theory",
    "inner_products",
    "limits",
    "cases",
    "workers",
    "bench",
}


def name_of(path: Path) -> str:
    """Return a module's dotted name below the package: `settings`, `report.tables`, `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(tree: ast.AST) -> set[str]:
    """Return the dotted names of all that is imported anywhere in `tree`, ours and others'."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(names: set[str]) -> set[str]:
    """Reduce imported names to modules of ours: `firstorder.report.tables.write` becomes `report`."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "firstorder":
            module = parts[1] if len(parts) > 1 else "__init__"
            is_module = module in MODULES or (PACKAGE / module).is_dir()
            found.add(module if is_module else "__init__")
    return found


def at_import(path: Path) -> ast.Module:
    """Return what runs when a module is imported: without functions' bodies and `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef)
        and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_a_module_imports_only_what_its_layer_allows(name: str) -> None:
    layer = name.split(".")[0]
    assert layer in MAY_IMPORT, f"say in {Path(__file__).name} what {name} may import"
    imported = ours(imported_by(ast.parse(MODULES[name].read_text(encoding="utf-8"))))
    assert imported <= MAY_IMPORT[layer], f"{name} imports {sorted(imported - MAY_IMPORT[layer])}"


def test_layers_have_no_circle() -> None:
    """Every module finds a place after all that it may import."""
    placed: set[str] = set()
    while remaining := set(MAY_IMPORT) - placed:
        free = {name for name in remaining if MAY_IMPORT[name] - {name} <= placed}
        assert free, f"in a circle: {sorted(remaining)}"
        placed |= free


@pytest.mark.parametrize("name", MODULES)
def test_only_arithmetic_imports_torch(name: str) -> None:
    tree = at_import(MODULES[name]) if name == "__main__" else ast.parse(MODULES[name].read_text(encoding="utf-8"))
    others = {imported.split(".")[0] for imported in imported_by(tree)}
    if name not in ARITHMETIC:
        assert not others & {"torch", "safetensors"}


def test_the_command_line_imports_heavy_things_inside_its_verbs() -> None:
    imported = imported_by(at_import(MODULES["__main__"]))
    assert ours(imported) <= {"__init__", *BASE, "params", "settings"}
    others = {name.split(".")[0] for name in imported} - {"firstorder"}
    assert others <= sys.stdlib_module_names


def test_the_rules_of_the_workflow_import_no_more_than_they_ask() -> None:
    rules = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
    assert len(rules) > 1
    for path in rules:
        imports = re.findall(r"^\s*(?:from|import)\s+firstorder\b.*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        allowed = {
            "from firstorder import freshness, locks, params, settings",
            "from firstorder.errors import UserError",
        }
        assert {line.strip() for line in imports} <= allowed, path.name


def test_settings_results_and_report_work_where_torch_cannot_be_imported() -> None:
    names = [name for name in MODULES if name.split(".")[0] in ("params", "settings", "results", "report")]
    assert len(names) > 5
    program = "import importlib, sys\nsys.modules['torch'] = None\n" + "".join(
        f"importlib.import_module('firstorder.{name.removesuffix('.__init__')}')\n" for name in names
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_snakemake_pays_for_no_heavy_import() -> None:
    """It loads settings for every job: neither arrays nor tables nor drawing come with them."""
    program = "import sys, firstorder.freshness, firstorder.locks, firstorder.params; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "matplotlib", "seaborn", "PIL"} & set(done.stdout.split())
