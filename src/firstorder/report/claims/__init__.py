"""The paper's claims, and the verdicts of our records on them."""
