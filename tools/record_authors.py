"""Record what the authors' own code computes on made-up images, for compare_recording.py and the tests.

It needs a Python with TensorFlow 2.15 (neither torch nor this package), a checkout of openai/supervised-reptile and one
of cbfinn/maml. Their modules are imported by path and not changed; nothing of them is written. Every recording has the
same steps twice: in float32, as they run, and in float64, in which rounding hides nothing. Large variables are kept as
64 random projections each (recorded/made_up.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

OMNIGLOT = {"network": "omniglot", "classes": 8, "class_images": 20, "seed": 0}
ADAM = "--shots 1 --train-shots 10 --inner-batch 10 --inner-iters 5 --learning-rate 0.001 --meta-step 1 "
ADAM += "--meta-step-final 0 --meta-batch 3 --meta-iters 4"
SGD = "--sgd --shots 5 --train-shots 20 --inner-batch 25 --inner-iters 4 --learning-rate 0.003 --meta-step 0.25 "
SGD += "--meta-step-final 0 --meta-batch 2 --meta-iters 4"
MINI = "--shots 1 --train-shots 15 --inner-batch 10 --inner-iters 8 --learning-rate 0.001 --meta-step 1 "
MINI += "--meta-step-final 0 --meta-batch 2 --meta-iters 4"
# Each evaluation is (shot, images per inner step, inner steps).
NICHOL: dict[str, dict[str, Any]] = {
    "reptile-omniglot-5way-adam": {
        **OMNIGLOT,
        "flags": ADAM,
        "outer_steps": 3,
        "evaluations": [(1, 5, 50), (5, 5, 50)],
    },
    "reptile-omniglot-20way-adam": {
        **OMNIGLOT,
        "classes": 24,
        "flags": f"{ADAM} --classes 20 --inner-batch 20 --inner-iters 10 --learning-rate 0.0005 --meta-batch 2",
        "outer_steps": 1,
        "evaluations": [(1, 10, 50)],
    },
    "reptile-omniglot-5way-sgd": {**OMNIGLOT, "flags": SGD, "outer_steps": 3, "evaluations": [(5, 25, 5)]},
    "reptile-omniglot-5way-sgd-replacement": {
        **OMNIGLOT,
        "flags": f"{SGD} --replacement",
        "outer_steps": 1,
        "evaluations": [],
    },
    "foml-shared-tail-omniglot-5way-sgd": {
        **OMNIGLOT,
        "flags": f"{SGD} --foml --inner-iters 5",
        "outer_steps": 2,
        "evaluations": [(5, 25, 5)],
    },
    "foml-separate-tail-omniglot-5way-sgd": {
        **OMNIGLOT,
        "flags": f"{SGD} --foml --foml-tail 5",
        "outer_steps": 2,
        "evaluations": [(5, 25, 5)],
    },
    "foml-separate-tail-omniglot-5way-adam": {
        **OMNIGLOT,
        "flags": f"{ADAM} --foml --foml-tail 2",
        "outer_steps": 2,
        "evaluations": [(1, 5, 50)],
    },
    "reptile-mini-imagenet-5way-adam": {
        **OMNIGLOT,
        "network": "mini_imagenet",
        "flags": MINI,
        "outer_steps": 1,
        "evaluations": [(1, 5, 5), (5, 15, 5)],
    },
}
FINN_OMNIGLOT = "--datasource=omniglot --norm=batch_norm --num_classes=5 --update_lr=0.4 --meta_lr=0.001"
FINN_MINI = "--datasource=miniimagenet --norm=batch_norm --num_classes=5 --update_lr=0.01 --meta_lr=0.001 "
FINN_MINI += "--num_filters=32 --max_pool=True"
FINN: dict[str, dict[str, Any]] = {
    "maml-omniglot-5way-1shot": {
        **OMNIGLOT,
        "network": "omniglot_finn",
        "flags": f"{FINN_OMNIGLOT} --update_batch_size=1 --meta_batch_size=4 --num_updates=1",
        "shot": 1,
        "queries": 1,
        "tasks": 4,
        "test_updates": 3,
        "outer_steps": 2,
    },
    "maml-omniglot-5way-5shot": {
        **OMNIGLOT,
        "network": "omniglot_finn",
        "flags": f"{FINN_OMNIGLOT} --update_batch_size=5 --meta_batch_size=3 --num_updates=2",
        "shot": 5,
        "queries": 5,
        "tasks": 3,
        "test_updates": 3,
        "outer_steps": 2,
    },
    "maml-mini-imagenet-5way-1shot": {
        **OMNIGLOT,
        "network": "mini_imagenet_finn",
        "flags": f"{FINN_MINI} --update_batch_size=1 --meta_batch_size=2 --num_updates=2",
        "shot": 1,
        "queries": 5,
        "tasks": 2,
        "test_updates": 3,
        "outer_steps": 2,
        # A larger head makes the meta-gradient large enough that some of its entries are clipped. (The first step of
        # Adam is the sign of a meta-gradient, clipped or not; the second shows it.)
        "start_factor": {"dense.kernel": 8.0},
    },
}
FINN |= {
    f"fo{name}": {**about, "flags": f"{about['flags']} --stop_grad=True"}
    for name, about in FINN.items()
    if name != "maml-omniglot-5way-1shot"
}


def commit_of(folder: Path) -> str:
    """Return the commit of a checkout; raises ValueError if it is none or has changes."""
    top, commit, changed = (
        subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True).stdout.strip()
        for arguments in (("rev-parse", "--show-toplevel"), ("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
    )
    if not top or Path(top).resolve() != folder.resolve() or changed:
        raise ValueError(f"{folder} is no unchanged git checkout")
    return commit


def record(name: str, folder: Path, about: dict[str, Any], stand_in: Any) -> dict[str, Any]:
    """Make one recording: the arrays of both precisions, what both drew alike, and how it was made."""
    from recorded import finn, nichol, version_one

    recorder = nichol if name in NICHOL else finn
    about = {
        "start_factor": {},
        "evaluations": [],
        **about,
        "flags": about["flags"].split(),
        "recorder": recorder.__name__.split(".")[-1],
    }
    found = {f"float{32 << double}": recorder.record(stand_in, about, bool(double)) for double in (0, 1)}
    drawn = {key: value for key, value in found["float32"].items() if value.dtype == np.int16 and "answers" not in key}
    for key, value in drawn.items():
        if not np.array_equal(value, found["float64"][key]):
            raise ValueError(f"{name}: {key} differs between the precisions")
    about |= {
        "repository": "openai/supervised-reptile" if name in NICHOL else "cbfinn/maml",
        "commit": commit_of(folder),
        "tensorflow": version_one.tensorflow.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
    arrays = {
        f"{precision}|{key}": value
        for precision, recorded in found.items()
        for key, value in recorded.items()
        if key not in drawn
    }
    return {"about": np.array(json.dumps(about)), **drawn, **arrays}


def main(arguments: argparse.Namespace) -> None:
    """Make the recordings that are named, or all."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    from recorded import version_one

    stand_in = version_one.install(arguments.tensorflow_batch_norm)
    sys.path[1:1] = [str(arguments.reptile), str(arguments.maml)]
    for name in arguments.names or [*NICHOL, *FINN]:
        of_nichol = name in NICHOL
        folder = arguments.reptile if of_nichol else arguments.maml
        arrays = record(name, folder, NICHOL[name] if of_nichol else FINN[name], stand_in)
        path = arguments.out / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reptile", type=Path, help="checkout of openai/supervised-reptile")
    parser.add_argument("maml", type=Path, help="checkout of cbfinn/maml")
    parser.add_argument("out", type=Path, help="folder for the recordings, such as tests/recordings")
    parser.add_argument("names", nargs="*", choices=[[], *NICHOL, *FINN], metavar="NAME", help="default: all")
    parser.add_argument(
        "--tensorflow-batch-norm",
        action="store_true",
        help="normalise cbfinn/maml with TensorFlow 2.15's kernels, whose second derivatives are others",
    )
    try:
        main(parser.parse_args())
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"nothing recorded: {error}")
