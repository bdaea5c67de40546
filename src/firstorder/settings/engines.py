"""The names of the engines and of what the benchmark writes about them, for whoever offers, times or shows them."""

from __future__ import annotations

PLAIN, NATIVE, LANES, GRAPH = "plain", "native", "lanes", "graph"
JAX, AUTHORS = "jax", "authors"  # contenders of the benchmark only
AUTO = "auto"
ENGINES = (PLAIN, NATIVE, LANES, GRAPH)  # what --engine takes beside AUTO; see engines/choice.py

# What the benchmark times, in the order of tables and charts -> seeds side by side in one step. With GRAPH these are
# whole outer steps, captured as a CUDA graph on a GPU.
CONTENDERS = {PLAIN: 1, NATIVE: 1, LANES: 1, GRAPH: 1, f"{GRAPH}, 3 seeds": 3, JAX: 1, AUTHORS: 1}
TIMED = {"cpu": (PLAIN, NATIVE, JAX), "cuda": (PLAIN, LANES, GRAPH, f"{GRAPH}, 3 seeds")}  # by default

THREADED = (NATIVE,)  # whose growth with the threads of one process is measured on a CPU

SCHEMA = 2  # of the benchmark's JSON files
ONE, SIDE_BY_SIDE = "one process", "side by side"  # layouts: one process on all cores; one on each, all at once
