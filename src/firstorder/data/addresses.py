"""Addresses of archives, and what is printed of them: never a password, and always one line."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from firstorder.errors import UserError, shown

SCHEMES = ("http", "https", "file")
_LONGEST = 200  # characters of what a server said
_SECRET = re.compile(r"(?<![^\s'\"(=/])[^\s'\"/]*:[^\s'\"]*@")


def without_secrets(text: str) -> str:
    """Return an address, or a text with addresses, without user names, passwords and queries, on one line."""
    return shown(_hidden(text))


def _hidden(text: str) -> str:
    return _SECRET.sub("...@", re.sub(r"(?<=[^\s?])\?[^\s'\")]+", "?...", text))


def said(text: object) -> str:
    """Return what a server or the system said as a short line that cannot steer a terminal."""
    line = _hidden(" ".join(str(text).split())) or type(text).__name__
    return "".join(character if character.isprintable() else "?" for character in line)[:_LONGEST]


def mirrored(mirror: str, dataset: str, name: str) -> tuple[str, ...]:
    """Return the two addresses at which an archive may be in the mirror, a folder or an address.

    Raises UserError for a folder that does not exist and for an address that cannot be that of a folder.
    """
    scheme, separator, rest = mirror.partition("://")
    if not separator:
        try:
            root = Path(mirror).expanduser().resolve()
            is_there = root.is_dir()
        except (OSError, RuntimeError, ValueError):  # the home of nobody, a link to itself, a name too long
            is_there = False
        if not is_there:
            raise UserError(
                f"DATA_MIRROR is {without_secrets(mirror)!r}: no such folder; set it to one that has {dataset}/{name}"
            )
        base = root.as_uri()
    elif scheme.lower() in SCHEMES:
        base = f"{scheme.lower()}://{rest.rstrip('/')}"
        if fault := _fault(base):
            raise UserError(
                f"DATA_MIRROR has {fault}; set it to a folder, or to an address such as https://host/folder"
            )
    else:
        raise UserError(
            f"DATA_MIRROR is {without_secrets(mirror)!r}: expected a folder or an address that begins with http://, "
            "https:// or file://"
        )
    quoted = urllib.parse.quote(name)
    return f"{base}/{urllib.parse.quote(dataset)}/{quoted}", f"{base}/{quoted}"


def _fault(address: str) -> str | None:
    """Say why an address cannot be that of a mirror, without showing it."""
    if shown(address) != address:
        return "a line break or a control character in it"
    try:
        parts = urllib.parse.urlsplit(address)
        parts.port  # noqa: B018  # raises ValueError for what is no number
    except ValueError:
        return "an address that cannot be understood"
    if "@" in parts.netloc:
        return "a user name or a password in it, which would be sent and kept in the clear"
    if parts.query or parts.fragment or "?" in address or "#" in address:
        return "a ? or # in it, behind which no folder can follow"
    return None
