"""Loads matplotlib as it comes: nobody's settings of it are read, so that letters and figures are the same everywhere.

Its file of settings is the one in the working folder, else the one that MATPLOTLIBRC names, else that of the user. Each
may be broken, or ask for LaTeX. Where no module has loaded matplotlib before, none of them is read.
"""

from __future__ import annotations

import os

_FILE = "matplotlibrc"
_VARIABLES = {"MATPLOTLIBRC": os.devnull, "MPLBACKEND": "agg"}


def load() -> None:
    """Import matplotlib with an empty file of settings; raises ImportError if it is not installed."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    here = os.open(".", os.O_RDONLY) if os.path.lexists(_FILE) else None
    try:
        if here is not None:
            os.chdir(os.sep)  # away from the file that would be read first
        os.environ.update(_VARIABLES)
        import matplotlib  # noqa: F401
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
        if here is not None:
            os.fchdir(here)
            os.close(here)
