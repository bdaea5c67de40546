"""Compare this package with recordings of the authors' code, from the same start and mini-batches.

tests/recordings/ has recordings on made-up images, made by record_authors.py. Each has the same steps in float32, as
the authors' code runs, and in float64. Four Euclidean distances are printed for each result: between the authors'
float32 and ours, between the authors' float32 and float64 (their rounding), between ours (our rounding), and between
the authors' float64 and ours. They are relative to the change made by the steps; for logits, meta-gradients and second
moments, to their size. Rounding can be large: a fresh Adam divides a gradient near 0 by its size, and a ReLU flips
where its input is near 0 over a large uniform area. In float64 such a difference would be about 2^-29 of that in
float32, so the last column tells an error from rounding.

A recording on real images of Omniglot (not published) has float32 only, and three distances are printed.

Biases of convolutions are left out: batch normalisation cancels them, so they only accumulate rounding errors.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np

from recorded import distances, real_images
from recorded.repeat import Recording


def main(path: str) -> None:
    """Print the distances of one recording."""
    arrays = np.load(path)
    if "about" not in arrays:
        real_images.show(path)
        return
    recording = Recording(arrays)
    about = recording.about
    print(f"{Path(path).name}: {about['repository']} at {about['commit'][:7]}, TensorFlow {about['tensorflow']}")
    print(distances.HEADING)
    for row in distances.measured(recording):
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", metavar="RECORDING.npz")
    try:
        for name in parser.parse_args().recordings:
            main(name)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"not a recording that can be read: {error}")
