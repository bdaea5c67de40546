"""The command line: `firstorder VERB`, or `python -m firstorder VERB`.

Every verb works in the folder of a params.yaml: the current folder, or that of --params. The paths it reads and writes
are defined in settings/paths.py. A user's error ends in one line on standard error and exit code 2. Modules that are
slow to import (torch, pandas) are imported inside the verbs, so that reporting needs no torch.

To add a verb, write a function with the decorator `verb` in the file of its group.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from firstorder import __version__
from firstorder.cli import benchmark, check, compute, data, look, output, publish, report, studies, workflow
from firstorder.cli.verbs import GROUPS, VERBS
from firstorder.errors import UserError

FILES = (data, compute, studies, benchmark, look, check, publish, report, workflow)  # in the order of the help
OUTPUT_CLOSED = 141  # exit code when a pipe was closed, as by `| head`; a shell reports SIGPIPE with the same code


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; its help lists them by purpose."""
    made = argparse.ArgumentParser(
        prog="firstorder",
        description="Train, evaluate and report the replication of arXiv 1803.02999.",
        epilog=_listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB", help="one of the verbs below")
    for name, verb in VERBS.items():
        added = verbs.add_parser(name, description=verb.help)
        added.set_defaults(function=verb.function)
        added.add_argument("--params", default="params.yaml", help="settings file; its folder holds data and results")
        for argument in verb.arguments:
            added.add_argument(*argument.names, **argument.options)
    return made


def _listed() -> str:
    """List the verbs by group, within a group in the order of FILES."""
    lines = []
    files = [module.__name__ for module in FILES]
    ordered = sorted(VERBS.values(), key=lambda verb: files.index(verb.function.__module__))
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"    {verb.name:<15} {verb.help.removesuffix('.')}" for verb in ordered if verb.group == group]
    return "\n".join(lines[1:]) + "\n\nSee `firstorder VERB --help` for the arguments of a verb."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code.

    0: done; 1: something is stale or does not verify; 2: a user's error; 3: --time-limit reached; 130: interrupted;
    141: the output was closed.
    """
    try:
        code = _call(_parsed(arguments))
        output.flush()
        return code
    except UserError as error:
        print(f"firstorder: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and output.redirect_closed():
            return OUTPUT_CLOSED
        where, why = error.filename or "the system reports", error.strerror or error
        print(f"firstorder: {where}: {why}; check the path, its permissions and the free space", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstorder: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(arguments)
    finally:
        output.flush()  # argparse exits the process after printing the help


def _call(parsed: argparse.Namespace) -> int:
    if not getattr(parsed, "allow_stale", False):
        return parsed.function(parsed) or 0
    from firstorder.report.read import staleness

    with staleness.allowed():
        return parsed.function(parsed) or 0
