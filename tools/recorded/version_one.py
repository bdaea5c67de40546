"""TensorFlow 2.15 as the authors' code expects it: version 1, with the few names that are no longer there.

The authors' modules import this as `tensorflow`. In double precision their `tf.float32` is float64, and a
batch normalisation for which there is no fused kernel in that precision is computed unfused.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import numpy as np
import tensorflow

ONE = tensorflow.compat.v1
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # TensorFlow's defaults for Adam, which are rounded to float32 otherwise


class Forwarding(types.ModuleType):
    """A module that has every name of another one, except those that are set on it."""

    def __init__(self, name: str, other: Any) -> None:
        super().__init__(name)
        self.__dict__["other"] = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["other"], name)


def install(tensorflow_batch_norm: bool = False) -> Forwarding:
    """Put version 1 in the place of `tensorflow` and return it; see `contrib_batch_norm`."""
    ONE.logging.set_verbosity(ONE.logging.ERROR)
    ONE.disable_v2_behavior()
    stand_in = Forwarding("tensorflow", ONE)
    stand_in.tensorflow_batch_norm = tensorflow_batch_norm
    layers = Forwarding("tensorflow.contrib.layers.python.layers", ONE)
    layers.batch_norm = functools.partial(contrib_batch_norm, stand_in)
    metrics = types.SimpleNamespace(accuracy=functools.partial(contrib_accuracy, stand_in))
    initializers = {
        name: lambda dtype=None: ONE.glorot_uniform_initializer()
        for name in ("xavier_initializer", "xavier_initializer_conv2d")
    }
    stand_in.contrib = types.SimpleNamespace(metrics=metrics, layers=types.SimpleNamespace(**initializers))
    sys.modules["tensorflow"] = stand_in
    for name in ("contrib", "contrib.layers", "contrib.layers.python"):
        sys.modules[f"tensorflow.{name}"] = types.ModuleType(f"tensorflow.{name}")
    sys.modules["tensorflow.contrib.layers.python"].layers = layers
    sys.modules["tensorflow.contrib.layers.python.layers"] = layers
    return stand_in


def set_precision(stand_in: Forwarding, double: bool) -> None:
    """Let the graphs that are built from now on compute in float64 or in float32."""
    kind = ONE.float64 if double else ONE.float32
    stand_in.float32 = kind
    stand_in.zeros = functools.partial(ONE.zeros, dtype=kind)
    stand_in.random_normal = functools.partial(ONE.random_normal, dtype=kind)
    stand_in.get_variable = lambda *given, dtype=kind, **options: ONE.get_variable(*given, dtype=dtype, **options)
    stand_in.to_float = functools.partial(ONE.cast, dtype=kind)
    stand_in.layers = Forwarding("tensorflow.layers", ONE.layers)
    stand_in.train = Forwarding("tensorflow.train", ONE.train)
    if double:
        stand_in.layers.batch_normalization = functools.partial(ONE.layers.batch_normalization, fused=False)
        exact = {"beta1": np.float64(BETA1), "beta2": np.float64(BETA2), "epsilon": np.float64(EPSILON)}
        stand_in.train.AdamOptimizer = functools.partial(ONE.train.AdamOptimizer, **exact)


def contrib_batch_norm(stand_in: Forwarding, inputs: Any, activation_fn: Any, reuse: bool, scope: str) -> Any:
    """Do what tf.contrib's batch_norm did by default: batch statistics, a shift, no scale, epsilon 0.001.

    It is written out unless `tensorflow_batch_norm` is set, because both kernels of TensorFlow 2.15 give other second
    derivatives, which MAML needs. tf.nn.moments (used in float64) stops the gradient at the mean inside the variance.
    The fused kernel (used in float32) has no second derivative inside tf.map_fn.
    """
    if stand_in.tensorflow_batch_norm:
        normed = stand_in.layers.batch_normalization(
            inputs, scale=False, epsilon=0.001, training=True, reuse=reuse, name=scope
        )
    else:
        with ONE.variable_scope(scope, reuse=reuse):
            shift = ONE.get_variable("beta", inputs.shape[-1:], stand_in.float32)
        offset = inputs - ONE.reduce_mean(inputs, [0, 1, 2], keepdims=True)
        variance = ONE.reduce_mean(ONE.square(offset), [0, 1, 2], keepdims=True)
        normed = offset * ONE.rsqrt(variance + 0.001) + shift
    return normed if activation_fn is None else activation_fn(normed)


def contrib_accuracy(stand_in: Forwarding, predictions: Any, labels: Any) -> Any:
    """Do what tf.contrib's accuracy did: the fraction of equal entries."""
    return ONE.reduce_mean(ONE.cast(ONE.equal(predictions, labels), stand_in.float32))
