"""What every claim declares besides its rule: whose claim it is, and what was known of the results when it was fixed.

A rule that is written after its result is known can be chosen to fit. So each claim says what was known of which seeds
(`known`), register.py compares that with dates, and the verdict is given a second time by those seeds alone of which
nothing was known, if there are others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from firstorder.errors import UserError
from firstorder.settings.schema import setting

Level = Literal["nothing", "curve", "result"]
ORIGINS = {
    "paper": "said by the paper",
    "memory": "remembered of the paper, without a text to check it by",
    "ours": "a check of ours",
}
_LEVELS: tuple[Level, ...] = ("nothing", "curve", "result")
_PART = re.compile(r"(?P<level>curve|result) of seeds? (?P<seeds>\d+(?:, \d+)*)")
GRAMMAR = "nothing, curve or result; with seeds: `result of seeds 0, 1; curve of seed 2`"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the claims of all kinds have in common."""

    sentence: str = setting("the claim in plain words")
    origin: Literal["paper", "memory", "ours"] = setting(
        "paper: its text or numbers say so, as far as published.csv and docs/algorithms.md cite it; memory: as we "
        "remember the paper, not verified; ours: a check that the paper does not make"
    )
    known: str = setting(
        "what was known of the results when the present rule was fixed; of seeds not named nothing was. curve: a "
        "curve was seen or a training was under way, or some results of several; result: all of them"
    )
    counted: Literal["apart"] | None = setting(
        "apart: true of any algorithm that learns, so not counted with the paper's claims", default=None
    )

    @property
    def known_before(self) -> Known:
        """What `known` says, by seed; it was checked when the claims were read."""
        return read_known(self.known, self.sentence)

    def columns(self) -> dict[str, Any]:
        """Return the columns of the table of claims that hold what is declared here."""
        return {name: getattr(self, name) for name in ("sentence", "origin", "known", "counted")}


@dataclass(frozen=True)
class Known:
    """What was known of the results when a claim was fixed: the level by seed, and the level of results without one."""

    by_seed: dict[int, Level]
    otherwise: Level

    def level(self, seed: int | None) -> Level:
        """Return what was known of a seed; of a result without seeds if it is None."""
        return self.otherwise if seed is None else self.by_seed.get(seed, self.otherwise)

    def in_advance(self, seeds: Iterable[int]) -> list[int]:
        """List those of the seeds of which nothing was known."""
        return [seed for seed in seeds if self.level(seed) == "nothing"]


def read_known(text: str, place: str) -> Known:
    """Parse `known`. Raises UserError, naming the place, for another text or a seed that is named twice."""
    if text in _LEVELS:
        return Known({}, next(level for level in _LEVELS if level == text))
    by_seed: dict[int, Level] = {}
    for part in text.split("; "):
        if (match := _PART.fullmatch(part)) is None:
            raise UserError(f"{place}: known: expected {GRAMMAR}, found {text!r}")
        level: Level = "curve" if match["level"] == "curve" else "result"
        for seed in map(int, match["seeds"].split(", ")):
            if seed in by_seed:
                raise UserError(f"{place}: known: names seed {seed} twice; keep one")
            by_seed[seed] = level
    return Known(by_seed, "nothing")


def mixed(known: Known, seeds: Collection[int]) -> list[int]:
    """List the seeds of which nothing was known if something was known of others; else none."""
    ahead = known.in_advance(seeds)
    return ahead if 0 < len(ahead) < len(seeds) else []
