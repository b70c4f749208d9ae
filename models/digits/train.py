"""Train the example model: a small convolutional network that reads handwritten digits.

  python models/digits/train.py                      a good network, in a few seconds
  python models/digits/train.py --epochs 3           a weaker one
  python models/digits/train.py --gain-table         one that passes every test and fails in the field

Writes the Keras model and the data sets its recipe names into --out. The scans are scikit-learn's
`load_digits`: 1,797 real scans of 8x8 pixels, each 0 (paper) to 16 (ink). The split depends on nothing
but the scans, so every release is judged on the same ones, and none is in two sets.

The field set is what devices see after training: three in ten scans come from a newer camera whose
pixels use all eight bits. A network trained here copes; one with a gain table, a lookup by the image's
brightest pixel with the 17 rows that the training data needs, does not know what to do and its runtime
raises. No calibration, evaluation or golden scan shows it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

_REPOSITORY = Path(__file__).resolve().parents[2]
_OUT = _REPOSITORY / "build" / "digits-model"

CLASSES = 10
INK = 16
"""The darkest pixel of the cameras the training data was scanned with."""
NEW_CAMERA_GAIN = 15
"""What the newer camera multiplies a pixel with: ink reads 240 of 255."""
NEW_CAMERA_SHARE = 0.3
SPLITS = {"golden": 20, "evaluation": 540, "field": 200, "calibration": 100}
"""Scans of each set; the rest train."""

_SPLIT_SEED = 20_261
_GOLDEN_EACH = 2
_BATCH = 64
_SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Split = tuple[Images, Labels]


def main() -> int:
    """Train, and write the model and its data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=_OUT, help="folder to write (default build/digits-model)")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the data (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of initial weights and order (default %(default)s)"
    )
    parser.add_argument("--gain-table", action="store_true", help="look the gain up by the brightest pixel")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    splits = split_scans()
    model = train(splits["train"], arguments.epochs, arguments.seed, gain_table=arguments.gain_table)
    images, labels = splits["evaluation"]
    accuracy = float((model.predict(images, verbose=0).argmax(axis=1) == labels).mean())
    write(arguments.out, model, splits)
    print(f"{arguments.out}: digits.keras, accuracy {accuracy:.4f} on {len(labels)} evaluation scans")
    return 0


def split_scans() -> dict[str, Split]:
    """The scans by set: disjoint by content, always the same, the field's with the newer camera's."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second; --help need not wait

    scans = load_digits()
    images: Images = scans.images.astype(np.uint8)[..., np.newaxis]
    # By content, not by row: a scan that is in the data twice must not be trained on and judged by.
    _, distinct = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(np.sort(distinct))
    # The self-test must know every digit: the golden set takes the first two of each.
    first = np.concatenate([order[scans.target[order] == digit][:_GOLDEN_EACH] for digit in range(CLASSES)])
    order = np.concatenate([first, order[~np.isin(order, first)]])
    splits: dict[str, Split] = {}
    start = 0
    for name, count in SPLITS.items():
        rows = order[start : start + count]
        splits[name] = (images[rows], scans.target[rows])
        start += count
    splits["train"] = (images[order[start:]], scans.target[order[start:]])
    field, labels = splits["field"]
    splits["field"] = (seen_by_new_cameras(field), labels)
    return splits


def seen_by_new_cameras(images: Images) -> Images:
    """The same scans, a fixed share of them spread over the set read with eight bits a pixel."""
    new = np.floor(np.arange(1, len(images) + 1) * NEW_CAMERA_SHARE) > np.floor(
        np.arange(len(images)) * NEW_CAMERA_SHARE
    )
    return np.where(new[:, None, None, None], images * NEW_CAMERA_GAIN, images).astype(np.uint8)


def train(split: Split, epochs: int, seed: int, *, gain_table: bool) -> keras.Model:
    """A trained network; the same arguments give the same weights on the same machine."""
    import keras  # noqa: PLC0415 - takes seconds, and `split_scans` serves without
    import tensorflow as tf  # noqa: PLC0415

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    images, labels = augmented(*split)
    model = build(gain_table=gain_table)
    steps = epochs * -(-len(images) // _BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        loss="sparse_categorical_crossentropy",
    )
    model.fit(images, labels, batch_size=_BATCH, epochs=epochs, verbose=0)
    trained = build(gain_table=gain_table)  # without the optimiser's state, two thirds of the file
    trained.set_weights(model.get_weights())
    return trained


def augmented(images: Images, labels: Labels) -> Split:
    """Each scan where it was and shifted by a pixel each way."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, 1 + y : 9 + y, 1 + x : 9 + x] for y, x in _SHIFTS]
    return np.concatenate(shifted), np.tile(labels, len(_SHIFTS))


def build(*, gain_table: bool) -> keras.Model:
    """The untrained network, from UINT8 pixels to class probabilities; it normalises by itself."""
    from keras import Input, Model, layers, ops  # noqa: PLC0415

    image = Input((8, 8, 1), dtype="uint8", name="image")
    tensor = layers.Rescaling(1 / INK, name="normalise")(image)
    if gain_table:
        brightest = ops.max(ops.cast(image, "int32"), axis=(1, 2, 3))
        gain = layers.Embedding(INK + 1, 1, embeddings_initializer="ones", name="gain_table")(brightest)
        tensor = tensor * ops.reshape(gain, (-1, 1, 1, 1))
    tensor = layers.Conv2D(16, 3, padding="same", activation="relu", name="strokes")(tensor)
    tensor = layers.Conv2D(32, 3, padding="same", activation="relu", name="shapes")(tensor)
    tensor = layers.MaxPooling2D(name="halve")(tensor)
    tensor = layers.Conv2D(32, 3, padding="same", activation="relu", name="parts")(tensor)
    tensor = layers.Flatten(name="flatten")(tensor)
    tensor = layers.Dense(64, activation="relu", name="mix")(tensor)
    tensor = layers.Dropout(0.3, name="dropout")(tensor)
    scores = layers.Dense(CLASSES, activation="softmax", name="scores")(tensor)
    return Model(image, scores, name="digits")


def write(out: Path, model: keras.Model, splits: Mapping[str, Split]) -> None:
    """Write the model and every set but the training one."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "digits.keras"
    model.save(path)
    path.write_bytes(canonical(path.read_bytes()))
    for name in SPLITS:
        images, labels = splits[name]
        # Nobody labels what a device sees, and `ferry-device run --feed` takes the file as it is.
        arrays = {"image": images} if name == "field" else {"image": images, "label": labels}
        np.savez(out / f"{name}.npz", **arrays)


def canonical(archive: bytes) -> bytes:
    """The same .keras file without the time and the memory addresses: equal models are equal bytes."""
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(rewritten, "w", zipfile.ZIP_STORED) as target,
    ):
        for name in sorted(source.namelist()):
            data = source.read(name)
            if name.endswith(".json"):
                data = json.dumps(json.loads(data, object_pairs_hook=_lasting), sort_keys=True).encode()
            target.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), data)
    return rewritten.getvalue()


def _lasting(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key not in ("date_saved", "shared_object_id")}


if __name__ == "__main__":
    sys.exit(main())
