"""The paper's claims and our verdicts."""
