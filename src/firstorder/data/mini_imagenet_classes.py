"""The WordNet ids by which mini-ImageNet's classes are named, in one normal form: `n` and eight digits. No torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

CLASS_ID = re.compile(r"[nN][0-9]{8}")


def class_at_start(name: str) -> str | None:
    """Return the class whose id a name begins with, if it does."""
    found = CLASS_ID.match(name)
    return found[0].lower() if found else None


def class_of_folders(folders: Iterable[str]) -> str | None:
    """Return the class of the deepest folder that is named by an id, if there is one."""
    named = [folder.lower() for folder in folders if CLASS_ID.fullmatch(folder)]
    return named[-1] if named else None


def class_named(folder: str) -> str | None:
    """Return the class that a folder is named by, also with words behind the id; None for none and for several."""
    found = classes_in(folder)
    return next(iter(found)) if len(found) == 1 and CLASS_ID.match(folder) else None


def classes_in(label: str) -> set[str]:
    """Return the classes that a label or folder names: at a word's begin, in capitals or not, in any kind of digits."""
    plain = re.sub(r"[^0-9a-z_./\\ -]", "", unicodedata.normalize("NFKC", label).lower())
    return set(re.findall(r"(?<![0-9a-z])n[0-9]{8}", plain))
