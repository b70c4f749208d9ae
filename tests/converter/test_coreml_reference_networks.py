"""Whole networks as coremltools exports them from TensorFlow, against TensorFlow's own answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.converter.coreml_packages import FLOAT, HALF, answers, evaluator, from_tensorflow, saved


def _convolutional() -> Any:
    inputs = keras.Input((19, 23, 3), batch_size=1)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Conv2D(12, (3, 2), dilation_rate=(1, 2), padding="valid", activation="elu")(x)
    x = layers.AveragePooling2D((2, 3), strides=1, padding="same")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))


def _separable() -> Any:
    """As MobileNetV2 is built: expanded, depthwise, projected, added."""
    inputs = keras.Input((24, 18, 3), batch_size=1)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    for strides, width in ((1, 8), (2, 12), (1, 12)):
        y = layers.Conv2D(6 * x.shape[-1], 1, use_bias=False)(x)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(7, activation="sigmoid")(x))


def _attentive() -> Any:
    inputs = keras.Input((9, 16), batch_size=1)
    x = layers.LayerNormalization()(inputs)
    x = layers.Add()([inputs, layers.MultiHeadAttention(4, 8)(x, x)])
    y = layers.Dense(32, activation=lambda v: keras.activations.gelu(v, approximate=True))(x)
    x = layers.Add()([x, layers.Dense(16)(y)])
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalMaxPooling1D()(x)))


def _upsampling() -> Any:
    inputs = keras.Input((6, 5, 4), batch_size=1)
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="tanh")(inputs)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = layers.Conv2DTranspose(3, (2, 3), strides=(1, 2), padding="valid")(x)
    x = layers.UpSampling2D((2, 1), interpolation="nearest")(x)
    return keras.Model(inputs, layers.Cropping2D(((1, 2), (0, 3)))(layers.LeakyReLU()(x)))


def _recurrent() -> Any:
    inputs = keras.Input((7, 4), batch_size=1)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True, unroll=True))(inputs)
    x = layers.GRU(5, return_sequences=True, reset_after=True, unroll=True)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.SimpleRNN(5, unroll=True)(x)))


NETWORKS: dict[str, Callable[[], Any]] = {
    "convolutional": _convolutional,
    "separable": _separable,
    "attentive": _attentive,
    "upsampling": _upsampling,
    "recurrent": _recurrent,
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_answer_as_in_tensorflow(tmp_path: Path, name: str) -> None:
    keras.utils.set_random_seed(5)
    model = NETWORKS[name]()
    _settle(model)
    spec = tf.TensorSpec(model.inputs[0].shape, tf.float32)
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    x = np.random.default_rng(1).standard_normal(model.inputs[0].shape).astype(np.float32)
    expected = np.asarray(concrete(tf.constant(x)))
    (single,) = answers(saved(from_tensorflow(concrete, precision=FLOAT), tmp_path), x)
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=5e-6)
    (half,) = answers(saved(from_tensorflow(concrete, precision=HALF), tmp_path), x)
    np.testing.assert_allclose(half, expected, atol=1e-2 * np.abs(expected).max())
    assert not np.array_equal(half, single)


def _settle(model: Any) -> None:
    """Batch statistics as training leaves them, not 0 and 1."""
    generator = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [
                    generator.uniform(0.5, 1.5, size),
                    generator.standard_normal(size) * 0.2,
                    generator.standard_normal(size) * 0.2,
                    generator.uniform(0.5, 1.5, size),
                ]
            )


@pytest.mark.parametrize(("layout", "first"), [("RGB", False), ("BGR", True)])
def test_a_picture_is_taken_in_the_order_the_model_says(tmp_path: Path, layout: str, *, first: bool) -> None:
    concrete = tf.function(lambda x: tf.reduce_sum(x, axis=[1, 2])).get_concrete_function(
        tf.TensorSpec((1, 4, 6, 3), tf.float32, name="image")
    )
    image = ct.ImageType(
        name="image", shape=(1, 4, 6, 3), color_layout=ct.colorlayout[layout], channel_first=False
    )
    model = evaluator(saved(from_tensorflow(concrete, image), tmp_path))
    assert model.program.images == {"image": first}
    (planes,) = model.program.inputs
    assert planes.type.shape == (1, 3, 4, 6)
