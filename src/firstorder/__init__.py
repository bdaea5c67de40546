"""Replication of "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999).

The command line is in `__main__`; everything it calls is an ordinary function of a module here. As a library, use
`firstorder.load` and `firstorder.train` (library.py, docs/extend.md). Importing the package does no work and imports
neither torch nor any data; the names of the library are imported when they are first used.
"""

from importlib import import_module

__version__ = "0.1.0"

# Raised by hand whenever any number the package computes may move: records made
# under another version count as stale (tests/method/test_golden.py notices a forgotten raise).
NUMERICS_VERSION = 1

_LIBRARY = ("Accuracy", "Adapted", "Learner", "load", "train")


def __getattr__(name: str) -> object:
    """Return a name of the library, which needs torch; raises ImportError that says what to install."""
    if name not in _LIBRARY:
        raise AttributeError(f"module 'firstorder' has no attribute {name!r}")
    try:
        return getattr(import_module("firstorder.library"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"firstorder.{name} needs {error.name}; install it: pip install {error.name}") from error
