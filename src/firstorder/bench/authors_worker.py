"""Runs the authors' code, openai/supervised-reptile, for authors.py: a script that imports nothing of the package.

Its Python needs TensorFlow 2.15, but neither torch nor this project. It takes the first step, then answers requests on
the connection whose descriptor is its first argument. The second one is JSON: what to run.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Noise:
    """A class of images of noise, with the method that the authors' code calls."""

    def __init__(self, images: Any) -> None:
        self.images, self.is_binary = images, images.ndim == 3

    def sample(self, count: int) -> list[Any]:
        """Return `count` images; as there, Omniglot's are kept as floats, mini-ImageNet's are divided anew."""
        if self.is_binary:
            self.images = self.images.astype("float32", copy=False)
        chosen = [self.images[number] for number in random.sample(range(len(self.images)), count)]
        return chosen if self.is_binary else [image.astype("float32") / 0xFF for image in chosen]


class Server:
    """The authors' model and Reptile object, and the answers to requests."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        tensorflow = importlib.import_module("tensorflow")
        version_one = tensorflow.compat.v1
        version_one.logging.set_verbosity(version_one.logging.ERROR)
        version_one.disable_v2_behavior()
        sys.modules["tensorflow"] = version_one  # what their modules import by this name
        models, reptile, variables = (
            importlib.import_module(f"supervised_reptile.{name}") for name in ("models", "reptile", "variables")
        )
        model = getattr(models, wanted["model"])(
            wanted["arguments"]["num_classes"], learning_rate=wanted["learning_rate"]
        )
        threads = {f"{kind}_op_parallelism_threads": wanted["threads"] for kind in ("intra", "inter")}
        session = version_one.Session(config=version_one.ConfigProto(**threads))
        # As their train.py does, whose default is a decay of 1.
        learner = reptile.Reptile(session, pre_step_op=variables.weight_decay(1))
        session.run(version_one.global_variables_initializer())
        given = [noise(wanted), model.input_ph, model.label_ph, model.minimize_op]
        if wanted["does"] == "evaluate":
            given.append(model.predictions)
        self.step: Callable[[], object] = lambda: getattr(learner, wanted["does"])(*given, **wanted["arguments"])
        self.software = f"TensorFlow {tensorflow.__version__}"

    def measure(self, seconds: float) -> float:
        """Run for at least `seconds`; return steps per second."""
        begin, done = time.perf_counter(), 0
        while True:
            self.step()
            done += 1
            taken = time.perf_counter() - begin
            if taken >= seconds:
                return done / taken

    def facts(self) -> dict[str, Any]:
        """Return the steps of a call, the peak memory in MiB, and what the code ran with."""
        unit = 1 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {"units": 1, "peak_memory_mib": round(peak / 2**20), "software": self.software}


def noise(wanted: dict[str, Any]) -> list[Noise]:
    """Return classes of noise: ink or none in black and white, else any byte."""
    numpy = importlib.import_module("numpy")
    draw = numpy.random.default_rng(0).integers
    shape = (wanted["class_images"], *wanted["image"])
    most = 1 if len(wanted["image"]) == 2 else 0xFF
    return [Noise(draw(0, most + 1, shape, dtype=numpy.uint8)) for _ in range(wanted["classes"])]


def main(descriptor: str, wanted: dict[str, Any]) -> None:
    """Send the moment of the end of the first step, or why there is none; then answer until the other end closes."""
    connection = Connection(int(descriptor))
    os.dup2(2, 1)  # standard output is the benchmark's
    sys.path[0] = wanted["folder"]  # in place of this script's folder
    try:
        server = Server(wanted)
    except (ImportError, AttributeError) as error:  # AttributeError: of a TensorFlow without version 1's layers
        connection.send({"absent": f"{error} (in {sys.executable})"})
        return
    server.step()
    connection.send({"absent": None, "ready": time.monotonic()})
    while True:
        try:
            request, values = connection.recv()
        except EOFError:
            return
        connection.send(getattr(server, request)(*values))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
