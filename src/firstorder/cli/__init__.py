"""The command line: `firstorder VERB`, or `python -m firstorder VERB`.

Every verb works in the folder of a params.yaml: the current folder, or that of --params. The paths it reads and writes
are defined in settings/paths.py. A user's error ends in one line on standard error and exit code 2. Modules that are
slow to import (torch, pandas) are imported inside the verbs, so that reporting needs no torch.

To add a verb, write a function with the decorator `verb` in the file of its group.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from typing import NoReturn

from firstorder import __version__
from firstorder.cli import (
    attempt,
    benchmark,
    check,
    compute,
    data,
    device,
    look,
    memory,
    move,
    output,
    publish,
    report,
    signals,
    studies,
    workflow,
)
from firstorder.cli.output import DEFAULT_PARAMS
from firstorder.cli.verbs import GROUPS, VERBS
from firstorder.errors import UserError, lacks_memory, lost_device, one_line

FILES = (
    attempt,
    data,
    compute,
    studies,
    benchmark,
    look,
    check,
    move,
    publish,
    report,
    workflow,
)  # in the order of the help
# Packages that only some verbs need -> the extra of pyproject.toml that installs them.
EXTRAS = dict.fromkeys(("jinja2", "markupsafe", "matplotlib", "seaborn"), "report") | {"snakemake": "workflow"}
_PLAN = re.compile(r"firstorder plan(?= lists)")  # in messages that do not know of which params.yaml
_MEMORY = "run less at the same time, or use a machine with more"
_RESERVE = 8 << 20  # bytes set free to say that there is too little memory
OUTPUT_CLOSED = 141  # exit code when a pipe was closed, as by `| head`; a shell reports SIGPIPE with the same code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are lines as those of all other refusals."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and the error; with the usage, unless make made the command of its variables."""
        by_make = output.SHELL_FOLDER in os.environ
        usage, help_ = ("", "make help") if by_make else (self.format_usage(), f"{self.prog} --help")
        self.exit(2, f"{usage}firstorder: {one_line(message)}; see: {help_}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; its help lists them by purpose."""
    made = _Parser(
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
        added.add_argument("--params", default=DEFAULT_PARAMS, help="settings file; its folder holds data and results")
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

    0: done; 1: something is stale or does not verify; 2: a user's error; 3: --time-limit reached; 129, 130, 143: ended
    by SIGHUP, SIGINT, SIGTERM; 141: the output was closed.
    """
    output.show_everything()
    try:
        with signals.ending():
            return _run(arguments)
    except KeyboardInterrupt as error:
        by = error if isinstance(error, signals.Interrupted) else signals.Interrupted()
        output.say(f"{by.name}: ended at once; what was saved before is kept")
        return by.code


def _run(arguments: Sequence[str] | None) -> int:
    """Run one verb and turn what it raises into one line and an exit code."""
    reserve = [bytearray(_RESERVE)]
    params, begun = DEFAULT_PARAMS, time.monotonic()
    try:
        parsed = _parsed(arguments)
        parsed.begun = begun
        params = parsed.params
        code = _call(parsed)
        output.flush()
        return code
    except UserError as error:
        option = output.params_option(params)
        output.say(_PLAN.sub(lambda found: found[0] + option, str(error)))
    except (MemoryError, RuntimeError, OSError, ImportError, SystemError) as error:
        reserve.clear()
        if lacks_memory(error):
            output.say(f"not enough memory ({one_line(error)[:200] or 'no more is free'}); {_MEMORY}")
            return 2
        if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").split(".")[0]) in EXTRAS:
            output.say(f"needs {name}, which is not installed: pip install 'firstorder[{EXTRAS[name]}]'")
            return 2
        if lost_device(error):
            said = str(error).partition("\n")[0][:200]
            then = "what is saved stays, and the same command goes on from there"
            output.say(f"{device.lost(said)}: lost while computing ({said}); {then}")
            return 2
        if not isinstance(error, OSError):
            raise
        if error.errno in output.GONE and output.redirect_closed():
            return OUTPUT_CLOSED
        where, why = error.filename or "the system reports", error.strerror or error
        output.say(f"{where}: {why}; check the path, its permissions and the free space")
    except UnicodeEncodeError as error:
        lacking = ascii(error.object[error.start : error.end][:40])
        output.say(f"file names are in {error.encoding} here, which lacks {lacking}; set LC_ALL=C.UTF-8")
    return 2


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(arguments)
    finally:
        output.flush()  # argparse exits the process after printing the help


def _call(parsed: argparse.Namespace) -> int:
    memory.check(parsed.verb)
    if not getattr(parsed, "allow_stale", False):
        return parsed.function(parsed) or 0
    from firstorder.report.read import staleness

    with staleness.allowed():
        return parsed.function(parsed) or 0
