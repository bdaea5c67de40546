"""The pages of the library and of the method, read from the source: signatures and docstrings.

The source is parsed, not imported, because the site is made where there is no torch. Names with a leading underscore
are left out.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from firstorder.files import Kind
from firstorder.report.site.folders import Folder
from firstorder.report.site.writer import Pages

PACKAGE = Path(__file__).parents[2]
SOURCE = Kind("a module of this package", 4 << 20, "restore it (git checkout -- {path}) or install the package again")
# In the order in which they are read, as method/__init__.py says.
METHOD = ("tasks", "images", "architectures", "networks", "inner_loop", "algorithms", "evaluation", "training")
INDEX = "api/index.html"
_WIDEST = 76  # characters of a signature in one line

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A function, a class, or a member of a class. `anchor` is its id on the page; `where` its file and line."""

    name: str
    anchor: str
    kind: str
    signature: str
    text: Markup
    where: str
    members: tuple[Entry, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Module:
    """One page: what a module is, in a line and in full, and what it offers."""

    name: str
    page: str
    summary: str
    text: Markup
    entries: tuple[Entry, ...]


def add(pages: Pages, folder: Folder) -> None:
    """Add the pages: first the library's, then one for each module of the method."""
    modules = [library(), *map(method, METHOD)]
    for module in modules:
        pages.add(module.page, "api.html.j2", folder=folder, module=module, modules=modules)


def library() -> Module:
    """Read the package as a library: the names that `firstorder` itself offers."""
    tree = _parsed("library/__init__.py")
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    where = {name.name: str(node.module).split(".")[-1] for node in imported for name in node.names}
    offered = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    found = {name: entry for file in set(where.values()) for name, entry in _entries(f"library/{file}.py").items()}
    # Functions first: a user begins with load and train.
    entries = sorted((found[name] for name in ast.literal_eval(offered)), key=lambda entry: entry.kind == "class")
    return _module("firstorder", INDEX, tree, entries)


def method(name: str) -> Module:
    """Read one module of the method."""
    path = f"method/{name}.py"
    page = f"api/method/{name}.html"
    return _module(f"firstorder.method.{name}", page, _parsed(path), _entries(path).values())


def _module(name: str, page: str, tree: ast.Module, entries: Iterable[Entry]) -> Module:
    doc = ast.get_docstring(tree) or ""
    summary = " ".join(doc.split("\n\n")[0].split())
    return Module(name=name, page=page, summary=summary, text=marked(doc), entries=tuple(entries))


def _parsed(path: str) -> ast.Module:
    return ast.parse(SOURCE.read_text(PACKAGE / path))


def _entries(path: str) -> dict[str, Entry]:
    """Return the public functions and classes of a module by name, in its order."""
    lines = SOURCE.read_text(PACKAGE / path).splitlines()
    found = {}
    tree = _Constants.replaced(ast.parse("\n".join(lines)))
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = _class(node, path, lines) if isinstance(node, ast.ClassDef) else _function(node, path)
    return found


class _Constants(ast.NodeTransformer):
    """Puts the value of a module's number in place of its name: `filters: int = 64` says more than FILTERS."""

    def __init__(self, values: dict[str, ast.Constant]) -> None:
        self.values = values

    @staticmethod
    def replaced(tree: ast.Module) -> ast.Module:
        """Return a module whose defaults are values."""
        values: dict[str, ast.Constant] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign):
                names, given = node.targets[0], node.value
                pairs = [(names, given)]
                if isinstance(names, ast.Tuple) and isinstance(given, ast.Tuple):
                    pairs = list(zip(names.elts, given.elts, strict=True))
                values |= {k.id: v for k, v in pairs if isinstance(k, ast.Name) and isinstance(v, ast.Constant)}
        _Constants(values).visit(tree)
        return tree

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a name that is read."""
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _function(node: Function, path: str, owner: str = "") -> Entry:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    is_property = any(name.endswith("property") for name in decorators)
    signature = f"{node.name}: {_type(node.returns)}" if is_property else _signature(node)
    return Entry(
        name=node.name,
        anchor=f"{owner}.{node.name}" if owner else node.name,
        kind="property" if is_property else "method" if owner else "function",
        signature=signature,
        text=marked(ast.get_docstring(node) or ""),
        where=f"src/firstorder/{path}, line {node.lineno}",
    )


def _class(node: ast.ClassDef, path: str, lines: Sequence[str]) -> Entry:
    members = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.target.id[0] != "_":
            members.append(_field(part, part.target.id, path, node.name, lines))
        elif isinstance(part, Function) and not part.name.startswith("_"):
            members.append(_function(part, path, node.name))
    return Entry(
        name=node.name,
        anchor=node.name,
        kind="class",
        signature=f"class {node.name}",
        text=marked(ast.get_docstring(node) or ""),
        where=f"src/firstorder/{path}, line {node.lineno}",
        members=tuple(members),
    )


def _field(node: ast.AnnAssign, name: str, path: str, owner: str, lines: Sequence[str]) -> Entry:
    """Return a field of a class; the comment behind it says what it holds."""
    _, _, comment = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")
    default = "" if node.value is None or isinstance(node.value, ast.Call) else f" = {ast.unparse(node.value)}"
    return Entry(
        name=name,
        anchor=f"{owner}.{name}",
        kind="field",
        signature=f"{name}: {_type(node.annotation)}{default}",
        text=marked(comment),
        where=f"src/firstorder/{path}, line {node.lineno}",
    )


def _signature(node: Function) -> str:
    """Return `name(arguments) -> type`, with a line for each argument if it is long."""
    taken = node.args
    plain = [*taken.posonlyargs, *taken.args]
    defaults = [None] * (len(plain) - len(taken.defaults)) + list(taken.defaults)
    parts = [_argument(*pair) for pair in zip(plain, defaults, strict=True) if pair[0].arg not in ("self", "cls")]
    if taken.vararg:
        parts.append(f"*{_argument(taken.vararg, None)}")
    elif taken.kwonlyargs:
        parts.append("*")
    parts += [_argument(*pair) for pair in zip(taken.kwonlyargs, taken.kw_defaults, strict=True)]
    if taken.kwarg:
        parts.append(f"**{_argument(taken.kwarg, None)}")
    behind = f" -> {_type(node.returns)}"
    line = f"{node.name}({', '.join(parts)}){behind}"
    return (
        line
        if len(line) <= _WIDEST
        else "\n    ".join([f"{node.name}(", *(f"{part}," for part in parts)]) + f"\n){behind}"
    )


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    named = f"{argument.arg}: {_type(argument.annotation)}"
    return named if default is None else f"{named} = {ast.unparse(default)}"


def _type(annotation: ast.expr | None) -> str:
    return "None" if annotation is None else ast.unparse(annotation)


def marked(doc: str) -> Markup:
    """Turn a docstring into HTML: paragraphs, lists with `-`, indented code, `code` and *stress*."""
    parts: list[Markup] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        if block.startswith("    "):
            parts.append(Markup("<pre><code>{}</code></pre>").format(inspect.cleandoc(block)))
            continue
        before, *items = re.split(r"^- ", block, flags=re.MULTILINE)
        if before.strip():
            parts.append(Markup("<p>{}</p>").format(_inline(before)))
        if items:
            parts.append(
                Markup("<ul>{}</ul>").format(
                    Markup("").join(Markup("<li>{}</li>").format(_inline(item)) for item in items)
                )
            )
    return Markup("\n").join(parts)


def _inline(text: str) -> Markup:
    escaped = str(escape(" ".join(text.split())))
    stressed = re.sub(r"(?<![\w*`])\*(\w+)\*(?![\w*`])", r"<em>\1</em>", escaped)
    return Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", stressed))
