"""The data sets a conversion is calibrated with and judged by.

Each is an .npz of one array per input, by its name, with one row per sample; `label` holds the class
where samples are labelled. Nothing is unpickled: BYTES, files or texts of any length, are arrays of numpy's
fixed width (`S`, or `U` for text). It drops zero bytes at an element's end, where PNG, JPEG and text have
none. Waveforms of several lengths are filled up to the longest with what `fit_length` fills up with: zeros.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.archives import ArchiveError, check_archive
from converter.errors import DataError
from converter.pass_recipe import withheld
from converter.proof.metrics import Labels, Metric
from converter.recipe import Recipe, shown_path
from edge_runtime.port import AnyArray
from ota_contract.tensors import DYNAMIC, Datatype

__all__ = ["LABEL", "Dataset", "Datasets", "load_datasets"]

LABEL = "label"
_MAX_BYTES = 8 * 2**30
_MAX_GOLDEN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One set."""

    name: str
    raw: Mapping[str, AnyArray]
    """Raw values by input name; the first axis counts samples."""
    labels: AnyArray | None

    def __len__(self) -> int:
        return len(next(iter(self.raw.values())))

    def sample(self, index: int) -> dict[str, AnyArray]:
        """One sample, as a batch of one."""
        return {name: array[index : index + 1] for name, array in self.raw.items()}

    def rows(self, rows: NDArray[np.intp]) -> Dataset:
        """Some of the samples."""
        return replace(
            self,
            raw={name: array[rows] for name, array in self.raw.items()},
            labels=None if self.labels is None else self.labels[rows],
        )

    def sha256(self) -> str:
        """Digest of the values; the same data packed otherwise has the same."""
        digest = hashlib.sha256()
        arrays = dict(self.raw) if self.labels is None else {**self.raw, LABEL: self.labels}
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """The three sets of a recipe, or those of them that a pass may read."""

    loaded: Mapping[str, Dataset]

    @property
    def calibration(self) -> Dataset:
        """What ranges are taken from."""
        return self._set("calibration")

    @property
    def evaluation(self) -> Dataset:
        """What variants are judged on."""
        return self._set("evaluation")

    @property
    def golden(self) -> Dataset:
        """What devices test themselves with."""
        return self._set("golden")

    def judged_by(self, rows: NDArray[np.intp]) -> Datasets:
        """The same with only some of the evaluation samples."""
        return replace(self, loaded={**self.loaded, "evaluation": self.evaluation.rows(rows)})

    def _set(self, name: str) -> Dataset:
        if name not in self.loaded:
            raise DataError(f"this pass does not say that it reads the {name} set")
        return self.loaded[name]


def load_datasets(recipe: Recipe) -> Datasets:
    """Read and check the sets of a recipe.

    Raises:
        DataError: Missing, malformed, empty, unlabelled, or overlapping; the message says which.
    """
    paths = {field.name: Path(getattr(recipe.data, field.name)) for field in fields(recipe.data)}
    loaded = {name: _load(recipe, name, path) for name, path in paths.items() if not withheld(path)}
    judge, golden = loaded.get("evaluation"), loaded.get("golden")
    if golden is not None and len(golden) > _MAX_GOLDEN:
        raise DataError(f"golden set: {len(golden)} vectors, at most {_MAX_GOLDEN} fit a device")
    if judge is not None:
        if judge.labels is None and recipe.goal.metric.labels is not Labels.NONE:
            shown = shown_path(recipe.data.evaluation)
            raise DataError(f"{shown} has no `{LABEL}` array to judge answers by")
        for other in (loaded[name] for name in ("calibration", "golden") if name in loaded):
            _check_disjoint(judge, other)
    return Datasets(loaded=loaded)


def _load(recipe: Recipe, name: str, path: Path) -> Dataset:
    shown = shown_path(path)
    if not path.is_file():
        advice = f"; run `{recipe.made_by}` first" if recipe.made_by else ""
        raise DataError(f"{recipe.shown}: data.{name}: {shown} does not exist{advice}")
    try:
        check_archive(path, max_bytes=_MAX_BYTES)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ArchiveError, OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{shown} is not a readable .npz file of plain arrays: {error}") from error
    raw = {}
    for wanted in recipe.preprocessing:
        if wanted.input not in arrays:
            raise DataError(f"{shown} has no array `{wanted.input}`; it has {', '.join(arrays) or 'none'}")
        array = raw[wanted.input] = _text_as_bytes(arrays[wanted.input])
        fits = array.ndim == len(wanted.raw_shape) and all(
            expected in (DYNAMIC, got)
            for expected, got in zip(wanted.raw_shape[1:], array.shape[1:], strict=True)
        )
        if not fits or not _is_of(array, wanted.raw_datatype):
            raise DataError(
                f"{shown}: `{wanted.input}` is {array.dtype} of shape {list(array.shape)}, the recipe says "
                f"{wanted.raw_datatype.value} of shape {list(wanted.raw_shape)}"
            )
    return _checked(Dataset(name=name, raw=raw, labels=arrays.get(LABEL)), shown, recipe)


def _is_of(array: AnyArray, datatype: Datatype) -> bool:
    return array.dtype.kind == "S" if datatype is Datatype.BYTES else array.dtype == datatype.dtype


def _text_as_bytes(array: AnyArray) -> AnyArray:
    """Texts as the device gets them, in UTF-8: numpy's own fixed width of four bytes a character goes."""
    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array


def _checked(data: Dataset, shown: str, recipe: Recipe) -> Dataset:
    counts = {len(array) for array in data.raw.values()}
    if len(counts) != 1:
        raise DataError(f"{shown}: arrays differ in length: {sorted(counts)}")
    if not len(data):
        raise DataError(f"{shown}: the {data.name} set is empty")
    _check_labels(data, shown, recipe)
    return data


def _check_labels(data: Dataset, shown: str, recipe: Recipe) -> None:
    labels, metric = data.labels, recipe.goal.metric
    if labels is None or metric.labels is Labels.NONE:
        return
    if metric.labels is Labels.CLASSES:
        classes = len(recipe.labels)
        if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
            raise DataError(f"{shown}: `{LABEL}` must be one whole number a sample")
        if classes and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
            raise DataError(f"{shown}: `{LABEL}` names classes outside 0…{classes - 1}")
        if data.name == "calibration" and labels.min() == labels.max():
            # Ranges seen on one class clip what the others need, and nothing would say why they suffer.
            raise DataError(f"{shown}: every sample is of class {labels[0]}; calibrate with samples of each")
        return
    wanted = 1 if metric is Metric.WITHIN else math.prod(recipe.outputs[0].shape[1:])
    numbers = labels.dtype.kind in "iuf" and len(labels) == len(data) and bool(np.isfinite(labels).all())
    if not numbers or (wanted > 0 and labels.size != wanted * len(data)):
        count = "one number" if wanted == 1 else f"{wanted} numbers"
        raise DataError(f"{shown}: `{LABEL}` must be {count} a sample")
    if metric is not Metric.WITHIN and data.name == "evaluation" and not labels.std(axis=0).all():
        raise DataError(f"{shown}: every `{LABEL}` is the same: {metric.value} means nothing then")


def _check_disjoint(judge: Dataset, other: Dataset) -> None:
    """A sample a variant was fitted to says nothing about how it does on others."""
    shared = _contents(judge) & _contents(other)
    if shared:
        raise DataError(
            f"{len(shared)} samples are in both the {judge.name} and the {other.name} set; split them"
        )


def _contents(data: Dataset) -> set[bytes]:
    names = sorted(data.raw)
    return {b"".join(data.raw[name][row].tobytes() for name in names) for row in range(len(data))}
