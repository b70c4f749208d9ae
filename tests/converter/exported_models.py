"""Exports models to ONNX as their users do: `python -m tests.converter.exported_models FOLDER`.

Keras through tf2onnx, scikit-learn through skl2onnx; each `<name>.onnx` with inputs and the framework's own
answers beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

CLASSES = 4


def keras_models() -> dict[str, Any]:
    """Small ones of every kind a phone runs."""
    image = keras.Input((8, 6, 3), name="x")
    tensor = layers.Conv2D(8, 3, strides=2, padding="same")(image)
    tensor = layers.ReLU(6.0)(layers.BatchNormalization()(tensor))
    tensor = layers.DepthwiseConv2D(3, padding="same")(tensor)
    tensor = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="silu")(tensor)
    tensor = layers.UpSampling2D(2, interpolation="bilinear")(tensor)
    convolution = keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(tensor)))

    words = keras.Input((6, 8), name="x")
    mixed = layers.MultiHeadAttention(2, 4)(words, words)
    mixed = layers.LayerNormalization()(words + mixed)
    wide = layers.Dense(16, activation=lambda value: keras.activations.gelu(value, approximate=True))(mixed)
    mixed = layers.LayerNormalization()(mixed + layers.Dense(8)(wide))
    attention = keras.Model(words, layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(mixed)))

    def recurrent(layer: Any) -> Any:
        sequence = keras.Input((6, 8), name="x")
        return keras.Model(sequence, layers.Dense(CLASSES, activation="softmax")(layer(sequence)))

    return {
        "keras-convolution": convolution,
        "keras-attention": attention,
        # Unrolled: else tf2onnx leaves a Loop, which Core ML has no equal for.
        "keras-lstm": recurrent(layers.LSTM(5, unroll=True)),
        "keras-gru": recurrent(layers.GRU(5, unroll=True)),
        "keras-bidirectional": recurrent(layers.Bidirectional(layers.LSTM(5, unroll=True))),
        "keras-loop": recurrent(layers.LSTM(5)),
    }


def main(folder: Path) -> None:
    keras.utils.set_random_seed(3)
    chance = np.random.default_rng(3)
    for name, model in keras_models().items():
        signature = [tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, name="x")]
        function = tf.function(
            lambda x, model=model: {"y": model(x, training=False)}, input_signature=signature
        )
        exported, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=15)
        x = chance.normal(0, 1, signature[0].shape).astype(np.float32)
        _keep(folder / f"{name}.onnx", exported, x, np.asarray(model(x, training=False)))

    _export_estimators(folder, chance)


def _export_estimators(folder: Path, chance: np.random.Generator) -> None:
    table, labels = chance.normal(0, 1, (80, 7)).astype(np.float32), chance.integers(0, CLASSES, 80)
    for name, estimator in (
        ("sklearn-logistic", LogisticRegression(max_iter=500)),
        ("sklearn-mlp", MLPClassifier((9,), max_iter=300, random_state=1)),
    ):
        estimator.fit(table, labels)
        exported = to_onnx(
            estimator, table[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3}
        )
        del exported.graph.output[0]  # the label, which is the place of the greatest probability
        _keep(folder / f"{name}.onnx", exported, table[:1], estimator.predict_proba(table[:1]))


def _keep(path: Path, model: Any, x: Any, y: Any) -> None:
    onnx.save(model, path)
    np.savez(path.with_suffix(".inputs.npz"), **{model.graph.input[0].name: x})
    np.savez(path.with_suffix(".expected.npz"), y)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
