"""The possible verdicts on a claim, as printed."""

EQUIVALENT, BETTER, WORSE, HOLDS, FAILS = "equivalent", "better", "worse", "holds", "fails"
INCONCLUSIVE, ONE_SEED = "inconclusive", "inconclusive: one seed"
NOT_RUN, REDUCED = "not run", "reduced length"


def decide(*, holds: bool, fails: bool) -> str:
    """Return the verdict on a claim that holds, fails, or does neither."""
    return HOLDS if holds else FAILS if fails else INCONCLUSIVE
