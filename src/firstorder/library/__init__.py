"""The package as a library: load a checkpoint, adapt it to a few images, classify others; or train on arrays.

    learner = firstorder.load("models/reptile/omniglot-5way/seed-0.safetensors")
    adapted = learner.adapt(support_images, support_labels)
    labels = adapted.predict(query_images, mode="inductive")

Images are NumPy arrays or torch tensors [images, channels, height, width], or [images, height, width] for one channel:
floating point in [0, 1], bool, or uint8 from 0 to 255. They must look like those of the training: in Omniglot's, ink is
0 and paper is 1. Labels are whole numbers from 0 to way - 1. All is computed as in the pipeline, by the same engines.
Nothing here reads or changes a global random state.
"""

from firstorder.library.learner import Accuracy, Adapted, Learner, load
from firstorder.library.on_arrays import train

__all__ = ["Accuracy", "Adapted", "Learner", "load", "train"]
