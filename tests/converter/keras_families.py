"""Saves small Keras models of every family: `python -m tests.converter.keras_families FOLDER`.

As `torch_models` does for PyTorch: `<family>-any.keras`, and for some `<family>-one.keras`, of one sample.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

CLASSES = 4
SAMPLES = 40
ONES = ("lstm",)


def _image() -> Any:
    return keras.Input((8, 6, 3), name="x")


def _ended(start: Any, tensor: Any) -> Any:
    return keras.Model(start, layers.Dense(CLASSES, activation="softmax")(tensor))


def convolution() -> Any:
    start = _image()
    tensor = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(start))
    tensor = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(tensor))
    return _ended(start, layers.Flatten()(layers.MaxPooling2D(2)(tensor)))


def mobile() -> Any:
    """Blocks of MobileNetV2: expand, filter each channel alone, project."""
    start = _image()
    tensor = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(start))
    tensor = layers.Activation("hard_silu")(tensor)
    for width, stride in ((8, 1), (12, 2)):
        inner = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 1)(tensor)))
        inner = layers.DepthwiseConv2D(3, strides=stride, padding="same")(inner)
        inner = layers.Conv2D(width, 1)(layers.ReLU(6.0)(layers.BatchNormalization()(inner)))
        tensor = layers.Add()([tensor, inner]) if stride == 1 else inner
    return _ended(start, layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(tensor)))


def transformer() -> Any:
    """Patches, attention, LayerNorm, exact GELU."""
    start = _image()
    tensor = layers.Reshape((12, 8))(layers.Conv2D(8, 2, strides=2)(start))
    normal = layers.LayerNormalization()(tensor)
    tensor = layers.Add()([tensor, layers.MultiHeadAttention(2, 4)(normal, normal)])
    wide = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(tensor))
    tensor = layers.Add()([tensor, layers.Dense(8)(wide)])
    return _ended(start, layers.GlobalAveragePooling1D()(tensor))


def recurrent(layer: Callable[[], Any]) -> Any:
    start = keras.Input((4, 5), name="x")
    return _ended(start, layer()(start))


def perceptron() -> Any:
    start = keras.Input((7,), name="x")
    return _ended(start, layers.Activation("gelu")(layers.BatchNormalization()(layers.Dense(16)(start))))


FAMILIES: dict[str, Callable[[], Any]] = {
    "cnn": convolution,
    "mobile": mobile,
    "transformer": transformer,
    "lstm": lambda: recurrent(lambda: layers.LSTM(6)),
    "gru": lambda: recurrent(lambda: layers.Bidirectional(layers.GRU(6))),
    "mlp": perceptron,
}


def main(folder: Path) -> None:
    keras.utils.set_random_seed(5)
    folder.mkdir(parents=True)
    chance = np.random.default_rng(5)
    for name, make in FAMILIES.items():
        model = make()
        for weight in model.weights:  # as training leaves them
            if weight.path.endswith(("bias", "moving_mean")):
                weight.assign(chance.normal(0, 0.3, weight.shape))
        model.save(folder / f"{name}-any.keras")
        if name in ONES:
            one = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]), name="x")
            keras.Model(one, model(one)).save(folder / f"{name}-one.keras")
        x = chance.normal(0, 1, (SAMPLES, *model.inputs[0].shape[1:])).astype(np.float32)
        np.savez(folder / f"{name}.npz", samples=x, answers=np.asarray(model(x, training=False)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
