"""The columns of the CSVs in results/curves, by the names of their paths.

Trainings and studies write them, `verify` checks them and the report reads them.
"""

from __future__ import annotations

CURVE = ("outer_step", "pool", "mode", "shot", "tasks", "accuracy", "standard_error")
ADAPTATION = ("inner_steps", "mode", "shot", "tasks", "accuracy", "standard_error")
ALPHABETS = ("mode", "alphabet", "answered", "queries", "offered", "errors")
SINE_LOSSES = ("seed", "algorithm", "inner_steps", "tasks", "loss", "standard_error")
SINE_FITS = ("task", "algorithm", "inner_steps", "x", "y")
MANIFOLD_POINTS = ("what", "outer_step", "toward", "x", "y")
EXPANSION = (
    *("problem", "algorithm", "inner_steps", "tasks", "mini_batches", "orders", "learning_rate"),
    *("average_coefficient", "inner_coefficient", "remainder"),
)
INNER_PRODUCTS = (
    *("algorithm", "mini_batches", "outer_step", "inner_steps", "tasks"),
    *("cosine", "cosine_standard_error", "cosine_change", "cosine_change_standard_error", "cosine_other_tasks"),
    *("product", "product_standard_error", "product_change", "product_change_standard_error", "product_other_tasks"),
    "gradient_norm",
)
