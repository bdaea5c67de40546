"""Every path of the pipeline, relative to the folder that holds params.yaml.

A path names its training or evaluation and its seed, so no two results share a file.
"""

from __future__ import annotations

MODEL = "models/{training}/seed-{seed}.safetensors"
CURVE = "results/curves/{training}/seed-{seed}.csv"
RECORD = "results/cells/{evaluation}/{mode}/seed-{seed}.json"
ADAPTATION = "results/curves/adaptation/{evaluation}/seed-{seed}.csv"
ALPHABETS = "results/curves/alphabets/{evaluation}/seed-{seed}.csv"
SINE_LOSSES = "results/curves/sine/losses.csv"
SINE_FITS = "results/curves/sine/fits.csv"
EXPANSION = "results/curves/theory/expansion.csv"
INNER_PRODUCTS = "results/curves/theory/{training}/seed-{seed}.csv"
MANIFOLD_POINTS = "results/curves/manifolds/points.csv"

# What is kept of unfinished work: where it is done (`digest` is that of its settings), and in Git (`suspend`).
STATE = ".work/{digest}/seed-{seed}.safetensors"
COUNTS = ".work/{digest}/counts-{seed}.json"
SUSPENDED_STATE = "unfinished/{training}/seed-{seed}.safetensors"
SUSPENDED_COUNTS = "unfinished/{evaluation}/counts-{seed}.json"
SUSPENDED_MODEL = "unfinished/{training}/checkpoint-{seed}.safetensors"
