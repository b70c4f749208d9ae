"""Train the keyword model: a depthwise-separable network over time that knows eight invented words.

  python -m models.keywords.train                    a good network, in 45 s of one core
  python -m models.keywords.train --epochs 3         a weaker one, sooner

Writes the Keras model and the data sets its recipe names into --out. All speech is synthetic
(`models.keywords.speech`); no two sets share a wave. What turns a wave into a spectrum is read from the
recipe and done by the executor of the devices: training sees what serving will see.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converter.recipe import load_recipe
from edge_runtime.preprocessing import prepare
from models.digits.train import canonical
from models.keywords.speech import PHONES, WORDS, said, silence

if TYPE_CHECKING:
    import keras

__all__ = ["LABELS", "SPLITS", "make_split", "other_word", "spectra", "train"]

_OUT = Path(__file__).resolve().parents[2] / "build" / "keywords-model"
_RECIPE = Path(__file__).with_name("recipe.toml")
_INPUT = "sound"

LABELS = (*WORDS, "unknown", "silence")
SPLITS = {"train": 4000, "evaluation": 1000, "calibration": 200, "golden": 10}
"""Waves of each set, as many of each label."""

_SEEDS = {"train": 11, "evaluation": 22, "calibration": 33, "golden": 44}
_UNKNOWN, _SILENCE = len(WORDS), len(WORDS) + 1
_NEAR_MISSES = 0.6
"""Of the unknown words, those that are a keyword with one sound exchanged."""
_PCM = 32767
_BATCH = 64
_LEARNING_RATE, _WEIGHT_DECAY = 4e-3, 1e-3
_NORM_MOMENTUM = 0.9
"""Keras' own 0.99 takes longer to learn means and variances than a short training is."""
_CHANNELS = 48
_BLOCKS = ((5, 2), (5, 1), (5, 2), (5, 1))
"""Length and stride of each depthwise filter."""

Waves = NDArray[np.int16]
Labels = NDArray[np.int64]
Split = tuple[Waves, Labels]


def main() -> int:
    """Train, and write the model and its data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder to write (default build/keywords-model)"
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the data (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of initial weights and order (default %(default)s)"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    splits = {name: make_split(name) for name in SPLITS}
    model = train(splits["train"], arguments.epochs, arguments.seed)
    waves, labels = splits["evaluation"]
    accuracy = float((model.predict(spectra(waves), verbose=0).argmax(axis=1) == labels).mean())
    write(arguments.out, model, splits)
    print(f"{arguments.out}: keywords.keras, accuracy {accuracy:.4f} on {len(labels)} evaluation waves")
    return 0


def make_split(name: str) -> Split:
    """The waves of a set, INT16 [n, samples], and their labels; the same every time."""
    generator = np.random.default_rng(_SEEDS[name])
    labels = np.arange(SPLITS[name]) % len(LABELS)
    waves = np.stack([_spoken(int(label), generator) for label in labels])
    return np.rint(waves * _PCM).astype(np.int16), labels


def _spoken(label: int, generator: np.random.Generator) -> NDArray[np.float32]:
    if label == _SILENCE:
        return silence(generator)
    return said(other_word(generator) if label == _UNKNOWN else WORDS[label], generator)


def other_word(generator: np.random.Generator) -> str:
    """A word that is no keyword: one with a sound exchanged, or any row of sounds."""
    sounds = list(PHONES)
    while True:
        if generator.random() < _NEAR_MISSES:
            word = list(generator.choice(WORDS))
            word[int(generator.integers(len(word)))] = str(generator.choice(sounds))
        else:
            word = [str(sound) for sound in generator.choice(sounds, int(generator.integers(2, 6)))]
        if "".join(word) not in WORDS:
            return "".join(word)


def spectra(waves: Waves) -> NDArray[np.float32]:
    """What the network takes, FP32 [n, frames, mels], made as a device makes it."""
    made: NDArray[np.float32] = prepare(load_recipe(_RECIPE).preprocessing, {_INPUT: waves})[_INPUT]
    return made


def train(split: Split, epochs: int, seed: int) -> keras.Model:
    """A trained network; the same arguments give the same weights on the same machine."""
    import keras  # noqa: PLC0415 - takes seconds, and `make_split` serves without
    import tensorflow as tf  # noqa: PLC0415

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    heard, labels = spectra(split[0]), split[1]
    model = build(heard)
    steps = epochs * -(-len(heard) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY),
        loss="sparse_categorical_crossentropy",
    )
    model.fit(heard, labels, batch_size=_BATCH, epochs=epochs, verbose=0)
    trained = build(heard)  # without the optimiser's state
    trained.set_weights(model.get_weights())
    return trained


def build(heard: NDArray[np.float32]) -> keras.Model:
    """The untrained network, from spectra to class probabilities; it normalises each mel as in `heard`."""
    from keras import Input, Model, layers  # noqa: PLC0415

    def normed(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
        norm = layers.BatchNormalization(momentum=_NORM_MOMENTUM, name=f"{name}_norm")
        return layers.ReLU(name=f"{name}_relu")(norm(tensor))

    sound = Input(heard.shape[1:], name=_INPUT)
    mean, variance = heard.mean(axis=(0, 1)), heard.var(axis=(0, 1))
    tensor = layers.Normalization(mean=mean, variance=variance, name="normalise")(sound)
    tensor = layers.Conv1D(_CHANNELS, 5, strides=2, padding="same", use_bias=False, name="sounds")(tensor)
    tensor = normed(tensor, "sounds")
    for index, (length, stride) in enumerate(_BLOCKS):
        name = f"block{index}"
        tensor = layers.DepthwiseConv1D(
            length, strides=stride, padding="same", use_bias=False, name=f"{name}_time"
        )(tensor)
        tensor = normed(tensor, f"{name}_time")
        tensor = layers.Conv1D(_CHANNELS, 1, use_bias=False, name=f"{name}_mix")(tensor)
        tensor = normed(tensor, f"{name}_mix")
    tensor = layers.GlobalAveragePooling1D(name="average")(tensor)
    tensor = layers.Dropout(0.2, name="dropout")(tensor)
    scores = layers.Dense(len(LABELS), activation="softmax", name="scores")(tensor)
    return Model(sound, scores, name="keywords")


def write(out: Path, model: keras.Model, splits: Mapping[str, Split]) -> None:
    """Write the model and every set but the training one."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "keywords.keras"
    model.save(path)
    path.write_bytes(canonical(path.read_bytes()))
    for name in SPLITS:
        if name != "train":
            waves, labels = splits[name]
            arrays: dict[str, Any] = {_INPUT: waves, "label": labels}
            np.savez(out / f"{name}.npz", **arrays)


if __name__ == "__main__":
    sys.exit(main())
