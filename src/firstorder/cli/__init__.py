"""The command line: parse, call, write. Run `firstorder --help`, or `python -m firstorder --help`.

Every verb works in the folder of a params.yaml (the current one, or that of --params) and reads and writes
the paths that settings.py names. What a user can get wrong ends in one line on standard error and exit
code 2. Heavy imports are inside the verbs, so that reporting needs no torch.

A verb is added in one file: a function with the decorator `verb`, in the file of its group.
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
NOBODY_READS = 141  # exit code where a pipe was closed, as after `| head`: a shell's for a process ended by SIGPIPE


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; the help lists them by what people want."""
    made = argparse.ArgumentParser(
        prog="firstorder",
        description="Train, evaluate and report the replication of arXiv 1803.02999.",
        epilog=_listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB", help="one of those below")
    for name, verb in VERBS.items():
        added = verbs.add_parser(name, description=verb.help)
        added.set_defaults(run=verb.run)
        added.add_argument("--params", default="params.yaml", help="settings; its folder holds everything else")
        for argument in verb.arguments:
            added.add_argument(*argument.names, **argument.options)
    return made


def _listed() -> str:
    """List the verbs, group by group."""
    lines = []
    places = [module.__name__ for module in FILES]
    ordered = sorted(VERBS.values(), key=lambda verb: places.index(verb.run.__module__))
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"    {verb.name:<15} {verb.help.removesuffix('.')}" for verb in ordered if verb.group == group]
    return "\n".join(lines[1:]) + "\n\nfirstorder VERB --help tells more."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's error, 3 out of time, 130 interrupted, 141 nobody reads."""
    try:
        code = _run(_parsed(arguments))
        output.flush()
        return code
    except UserError as error:
        print(f"firstorder: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and output.nobody_reads():
            return NOBODY_READS
        where, why = error.filename or "the system says", error.strerror or error
        print(f"firstorder: {where}: {why}; check the path, its permissions and the free space", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstorder: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(arguments)
    finally:
        output.flush()  # the help was printed, and argparse ends the process


def _run(parsed: argparse.Namespace) -> int:
    if not getattr(parsed, "allow_stale", False):
        return parsed.run(parsed) or 0
    from firstorder.report.read import staleness

    with staleness.allowed():
        return parsed.run(parsed) or 0
