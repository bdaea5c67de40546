"""The registry of verbs: each verb is a function of this folder, registered with its command-line arguments."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from firstorder.settings.engines import AUTO, ENGINES

Arguments = argparse.Namespace
Function = Callable[[Arguments], int | None]
Group = Literal["compute", "look", "check", "move", "publish", "internal"]

# Group -> title, in the order of `firstorder --help`.
GROUPS: dict[Group, str] = {
    "compute": "compute results",
    "look": "look at results",
    "check": "check results",
    "move": "stop here, go on there",
    "publish": "publish results",
    "internal": "called by Snakemake's rules and by make",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a verb: the parameters of argparse's `add_argument`."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: the function that it calls, its group in the help, and its arguments."""

    function: Function
    group: Group
    arguments: tuple[Argument, ...]

    @property
    def name(self) -> str:
        """The verb as typed on the command line."""
        return self.function.__name__.rstrip("_").replace("_", "-")

    @property
    def help(self) -> str:
        """The function's docstring, one sentence."""
        return (self.function.__doc__ or "").strip()


VERBS: dict[str, Verb] = {}


def argument(*names: str, **options: Any) -> Argument:
    """Declare an argument; parameters as for argparse's `add_argument`."""
    return Argument(names, options)


def verb(group: Group, *arguments: Argument) -> Callable[[Function], Function]:
    """Register a function as a verb."""

    def register(function: Function) -> Function:
        registered = Verb(function, group, arguments)
        VERBS[registered.name] = registered
        return function

    return register


def whole_number(text: str) -> int:
    """Parse a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def seed_number(text: str) -> int:
    """Parse a seed, for argparse: digits as in the names of results, so that 00, +0 or 0_0 is refused."""
    if not re.fullmatch(r"0|[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"expected a whole number such as 0, found {text!r}")
    return int(text)


def duration(unit: str) -> Callable[[str], float]:
    """Return a parser of times in `unit`, such as seconds, for argparse: finite numbers above 0."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (found > 0 and math.isfinite(found)):
            raise argparse.ArgumentTypeError(f"expected a finite number of {unit} above 0, found {text!r}")
        return found

    return parse


# Arguments shared by several verbs.
TRAINING = argument("training", help="its name in params.yaml, such as reptile/omniglot-5way")
EVALUATION = argument("evaluation", help="its name in params.yaml, such as reptile/omniglot-5way/1shot")
CELL = argument("cell", help="an evaluation and a mode, such as reptile/omniglot-5way/1shot/transductive")
DATASET = argument("dataset", help="its name in params.yaml, such as omniglot")
SEED = argument("--seed", type=seed_number, required=True, help="one of params.yaml's seeds")
DEVICE = argument(
    "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one, else the CPU"
)
THREADS = argument(
    "--threads",
    type=whole_number,
    metavar="N",
    help="of engine native, whose results have the same bytes with any number (default: OMP_NUM_THREADS, or 1)",
)
ENGINE = argument(
    "--engine",
    choices=(AUTO, *ENGINES),
    default=AUTO,
    help="plain: autograd; native: C, for a CPU; lanes: many tasks at once; graph: as lanes, with whole outer steps "
    "of all seeds together, on a GPU as CUDA graphs; auto: graph on a GPU, else native or plain",
)
COMPILE = argument("--compile", action="store_true", help="for lanes and graph: fuse operations with torch.compile")
PUBLISHED = argument("--published", default="paper/published.csv", help="the paper's numbers")
ALLOW_STALE = argument(
    "--allow-stale", action="store_true", help="show stale records with a mark instead of refusing them"
)
