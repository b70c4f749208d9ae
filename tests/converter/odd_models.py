"""Writes Keras models a converter has to cope with: `python odd_models.py DIGITS.keras FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("elsewhere")
class Doubling(keras.layers.Layer):  # type: ignore[misc] # no types
    """Code of the model's author."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2


def main(digits: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    image = keras.Input((8, 8, 1), name="image")
    classify = keras.layers.Dense(10, activation="softmax")

    def ended(tensor: Any) -> Any:
        return keras.Model(image, classify(keras.layers.Flatten()(tensor)))

    ended(keras.layers.Lambda(lambda tensor: tensor / 2, name="halve")(image)).save(folder / "lambda.keras")
    ended(Doubling()(image)).save(folder / "custom.keras")
    wide = keras.Input((9, 9, 1), dtype="uint8", name="image")
    keras.Model(wide, classify.__class__(10)(keras.layers.Flatten()(wide))).save(folder / "wide.keras")

    model = keras.saving.load_model(digits, compile=False)
    broken = keras.models.clone_model(model)
    weights = model.get_weights()
    weights[2] = np.full_like(weights[2], np.nan)
    broken.set_weights(weights)
    broken.save(folder / "nan.keras")

    # The same network without its own normalisation: it takes what the converter is to fold.
    tensor = keras.Input((8, 8, 1), name="image")
    answer = tensor
    for layer in model.layers[2:]:
        answer = layer(answer)
    keras.Model(tensor, answer).save(folder / "unscaled.keras")

    # Colour images of unequal sides, each channel to be normalised by the converter.
    keras.utils.set_random_seed(3)
    photo = keras.Input((5, 7, 3), name="x")
    tensor = keras.layers.Conv2D(4, 3, activation="relu")(photo)
    tensor = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(tensor))
    keras.Model(photo, tensor).save(folder / "channels.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
