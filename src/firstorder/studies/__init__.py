"""Computed studies beside the tables: Figures 1 and 2, section 5, looks into an evaluation."""
