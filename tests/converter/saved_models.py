"""SavedModels as TensorFlow writes them: `python -m tests.converter.saved_models FOLDER`.

Beside those to convert, with unequal sides and every kind of layer, those nobody should open.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.core.protobuf import saved_model_pb2

CLASSES = 4


def main(folder: Path) -> None:
    """Write every model."""
    keras.utils.set_random_seed(1)
    _network().export(folder / "image", verbose=False)
    _sequence().export(folder / "sequence", verbose=False)
    spec = tf.TensorSpec((None, 7), tf.float32, name="x")
    for name, module in (
        ("vector", _Module()),
        ("no-signature", _Module()),
        ("python", _Python()),
        ("files", _Files()),
        ("nan", _Module(np.nan)),
        ("table", _Table()),
    ):
        function = tf.function(module.answer, input_signature=[spec])
        signatures = {} if name == "no-signature" else {"serving_default": function}
        tf.saved_model.save(module, str(folder / name), signatures=signatures)
    _with_restoring(folder / "restoring", folder / "vector")


def _with_restoring(folder: Path, source: Path) -> None:
    """A copy that names a function to be called when it is loaded."""
    shutil.copytree(source, folder)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    variable = next(node for node in nodes if node.WhichOneof("kind") == "variable")
    variable.saveable_objects["x"].restore_function = 1
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


class _Module(tf.Module):  # type: ignore[misc] # TensorFlow publishes no types
    """A dense layer with its answer beside another that the recipe leaves out."""

    def __init__(self, bias: float = 0.1) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(2).normal(0, 1, (7, CLASSES)), dtype=tf.float32)
        self.bias = tf.Variable(np.full(CLASSES, bias), dtype=tf.float32)

    def answer(self, x: Any) -> dict[str, Any]:
        """The scores, and their logarithms."""
        logits = tf.nn.leaky_relu(tf.matmul(self.mapped(x), self.weights) + self.bias)
        return {"y": tf.nn.softmax(logits), "also": tf.nn.log_softmax(logits)}

    def mapped(self, x: Any) -> Any:
        """What some do to the input."""
        return x


class _Python(_Module):
    def mapped(self, x: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), (None, 7))


class _Files(_Module):
    def mapped(self, x: Any) -> Any:
        return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


class _Table(_Module):
    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant([0, 1], tf.int64), tf.constant([1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)

    def mapped(self, x: Any) -> Any:
        return x + self.table.lookup(tf.cast(x > 0, tf.int64))


def _network() -> Any:
    image = tensor = keras.Input((8, 6, 3), name="image")
    tensor = layers.Conv2D(6, 3, padding="same", activation="relu")(tensor)
    tensor = layers.DepthwiseConv2D(3, strides=2, padding="same")(tensor)
    tensor = layers.BatchNormalization()(tensor)
    tensor = layers.Dense(8, activation="gelu")(layers.Flatten()(tensor))  # of Erfc, which converters lack
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(tensor))


def _sequence() -> Any:
    values = tensor = keras.Input((6, 3), name="values")
    tensor = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(tensor)
    tensor = layers.GRU(5)(tensor)
    return keras.Model(values, layers.Dense(CLASSES, activation="softmax")(tensor))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
