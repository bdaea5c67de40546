"""The possible verdicts on a claim, as printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

EQUIVALENT, BETTER, WORSE, HOLDS, FAILS = "equivalent", "better", "worse", "holds", "fails"
INCONCLUSIVE, ONE_SEED = "inconclusive", "inconclusive: one seed"
UNDECIDABLE = "undecidable"
NOT_RUN, REDUCED = "not run", "reduced length"
# Words with which a verdict can begin, by how the summary counts it.
GROUPS = {
    "hold": (EQUIVALENT, HOLDS),
    "fail": (BETTER, WORSE, FAILS),
    "undecided": (INCONCLUSIVE,),
    "undecidable": (UNDECIDABLE,),
    "not run": (NOT_RUN, REDUCED),
}


def decide(*, holds: bool, fails: bool) -> str:
    """Return the verdict on a claim that holds, fails, or does neither."""
    return HOLDS if holds else FAILS if fails else INCONCLUSIVE


def group(verdict: str) -> str:
    """Return the group of the summary that counts a verdict."""
    return next(name for name, words in GROUPS.items() if verdict.startswith(words))


def counts(verdicts: Iterable[str]) -> Counter[str]:
    """Count verdicts by the groups of the summary."""
    return Counter(map(group, verdicts))
