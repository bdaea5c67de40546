"""The registry of verbs: each is a function with its arguments beside it, in one of the files of this folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Arguments = argparse.Namespace
Run = Callable[[Arguments], int | None]
Group = Literal["compute", "look", "check", "publish", "internal"]

# What people want, in the order of `firstorder --help`.
GROUPS: dict[Group, str] = {
    "compute": "compute",
    "look": "look at what is recorded",
    "check": "check it",
    "publish": "publish it",
    "internal": "called by the rules of the workflow and by make",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a verb, as argparse takes it."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """A verb of the command line; its help is the function's docstring."""

    run: Run
    group: Group
    arguments: tuple[Argument, ...]

    @property
    def name(self) -> str:
        """What one types."""
        return self.run.__name__.replace("_", "-")

    @property
    def help(self) -> str:
        """The first sentence of the docstring, and all of it."""
        return (self.run.__doc__ or "").strip()


VERBS: dict[str, Verb] = {}


def argument(*names: str, **options: Any) -> Argument:
    """Declare an argument, in the words of argparse's add_argument."""
    return Argument(names, options)


def verb(group: Group, *arguments: Argument) -> Callable[[Run], Run]:
    """Register a function as a verb."""

    def register(run: Run) -> Run:
        made = Verb(run, group, arguments)
        VERBS[made.name] = made
        return run

    return register


def whole_number(text: str) -> int:
    """Read a whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return int(text)


# Arguments of several verbs.
SEED = argument("--seed", type=int, required=True, help="one of params.yaml's seeds")
DEVICE = argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one")
ENGINE = argument(
    "--engine",
    choices=("auto", "plain", "native", "lanes", "graph"),
    default="auto",
    help="plain: autograd; native: C, on a CPU; lanes: many at once; graph: lanes, and whole outer steps of "
    "all seeds, on a GPU as CUDA graphs; auto: graph on a GPU, else native or plain",
)
COMPILE = argument("--compile", action="store_true", help="lanes, graph: join operations with torch.compile")
PUBLISHED = argument("--published", default="paper/published.csv", help="the paper's numbers")
ALLOW_STALE = argument(
    "--allow-stale", action="store_true", help="show stale records with a mark instead of refusing them"
)
