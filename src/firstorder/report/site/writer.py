"""The files of the site in memory: pages filled from templates, copies of results, and how they are written to disk.

Every path is relative to the site's folder; `link` in a template turns one into a link from the page that is filled.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.files import Kind, replacing
from firstorder.report.text.templating import environment

TEMPLATES = Path(__file__).with_name("templates")
GENERATOR = '<meta name="generator" content="firstorder site">'  # in every page: by it a folder is known as a site
FRONT = "index.html"
DEMO = "demo"  # folder of the site that `make demo` writes; no page of ours has a path in it
DEMO_GENERATOR = '<meta name="generator" content="firstorder demo">'  # in its page
COPIED = Kind("a result", 64 << 20, "draw it again: make report", "no such result; write it first: make report")
SITE_FILE = Kind("a page of a site", 64 << 20, "remove the folder and write the site again: make site")


class Pages:
    """The site's files by path, in the order in which they were added."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._environment = environment(TEMPLATES)
        self._environment.globals["generator"] = GENERATOR

    def add(self, path: str, template: str, **values: Any) -> None:
        """Fill a template as the page `path`; everything that is not Markup is escaped."""
        text = self._environment.get_template(template).render(link=linker(path), here=path, **values)
        self.files[path] = text.encode("utf-8")

    def include(self, *sources: Path) -> None:
        """Add style sheets and scripts as they are, each by its name."""
        for source in sources:
            self.files[source.name] = source.read_bytes()

    def copy(self, path: str, source: Path) -> str:
        """Add a copy of a result, and return its path. Raises UserError if there is none."""
        self.files[path] = COPIED.read(source)
        return path

    def write(self, folder: Path) -> list[Path]:
        """Write all files below `folder` and remove those that an earlier site left there; the demo stays.

        Raises UserError if the folder holds something else.
        """
        _check_ours(folder)
        demo = folder / DEMO if has_demo(folder) else None
        for path in sorted(self.files, key=lambda path: path != FRONT):  # first, as by it the folder is known again
            with replacing(folder / path) as part:
                part.write_bytes(self.files[path])
        for left in sorted(folder.rglob("*"), reverse=True):
            if demo in (left, *left.parents):
                continue
            if left.is_dir() and not left.is_symlink():
                if not any(left.iterdir()):
                    left.rmdir()
            elif left.relative_to(folder).as_posix() not in self.files:
                left.unlink()
        return [folder / path for path in self.files]


def linker(page: str) -> Callable[[str], str]:
    """Return the function that turns a path of the site into a link from `page`."""
    here = posixpath.dirname(page) or "."

    def link(path: str) -> str:
        target, mark, anchor = path.partition("#")
        return posixpath.relpath(target, here) + mark + anchor

    return link


def has_demo(folder: Path) -> bool:
    """Say whether `make demo` has written its page into a site's folder."""
    return _is_made_by(DEMO_GENERATOR, folder / DEMO / FRONT)


def is_site(folder: Path) -> bool:
    """Say whether a folder holds a site, by its first page."""
    return _is_made_by(GENERATOR, folder / FRONT)


def _is_made_by(generator: str, page: Path) -> bool:
    return page.is_file() and generator.encode() in SITE_FILE.read(page)


def _check_ours(folder: Path) -> None:
    others = [] if not folder.exists() else list(folder.iterdir()) if folder.is_dir() else [folder]
    if has_demo(folder):
        others.remove(folder / DEMO)
    if others and not is_site(folder):
        raise UserError(f"{folder}: holds something else than a site; name an empty or a new folder with --out")
