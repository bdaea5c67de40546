"""Replication of "On First-Order Meta-Learning Algorithms" (arXiv 1803.02999).

The command line is in `__main__`; everything it calls is an ordinary function of a module here.
Importing the package does no work and imports neither torch nor any data.
"""

__version__ = "0.1.0"

# Raised by hand whenever any number the package computes may move: records made
# under another version count as stale (tests/method/test_golden.py notices a forgotten raise).
NUMERICS_VERSION = 1
