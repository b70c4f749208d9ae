"""The data sets a conversion is calibrated with and judged by.

Each is an .npz of one array per input, by its name, with one row per sample; `label` holds the class
where samples are labelled. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.archives import ArchiveError, check_archive
from converter.errors import DataError
from converter.judging import Metric
from converter.recipe import Recipe, shown_path
from edge_runtime.port import AnyArray
from ota_contract.tensors import DYNAMIC

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
    """The three sets of a recipe."""

    calibration: Dataset
    evaluation: Dataset
    golden: Dataset


def load_datasets(recipe: Recipe) -> Datasets:
    """Read and check the sets of a recipe.

    Raises:
        DataError: Missing, malformed, empty, unlabelled, or overlapping; the message says which.
    """
    sets = Datasets(
        calibration=_load(recipe, "calibration", recipe.data.calibration),
        evaluation=_load(recipe, "evaluation", recipe.data.evaluation),
        golden=_load(recipe, "golden", recipe.data.golden),
    )
    if sets.evaluation.labels is None:
        raise DataError(f"{shown_path(recipe.data.evaluation)} has no `{LABEL}` array to judge answers by")
    if len(sets.golden) > _MAX_GOLDEN:
        raise DataError(f"golden set: {len(sets.golden)} vectors, at most {_MAX_GOLDEN} fit a device")
    _check_disjoint(sets.evaluation, sets.calibration)
    _check_disjoint(sets.evaluation, sets.golden)
    return sets


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
    for plan in recipe.inputs:
        wanted = plan.spec
        if wanted.input not in arrays:
            raise DataError(f"{shown} has no array `{wanted.input}`; it has {', '.join(arrays) or 'none'}")
        array = raw[wanted.input] = arrays[wanted.input]
        fits = array.ndim == len(wanted.raw_shape) and all(
            expected in (DYNAMIC, got)
            for expected, got in zip(wanted.raw_shape[1:], array.shape[1:], strict=True)
        )
        if not fits or array.dtype != wanted.raw_datatype.dtype:
            raise DataError(
                f"{shown}: `{wanted.input}` is {array.dtype} of shape {list(array.shape)}, the recipe says "
                f"{wanted.raw_datatype.value} of shape {list(wanted.raw_shape)}"
            )
    return _checked(Dataset(name=name, raw=raw, labels=arrays.get(LABEL)), shown, recipe)


def _checked(data: Dataset, shown: str, recipe: Recipe) -> Dataset:
    counts = {len(array) for array in data.raw.values()}
    if len(counts) != 1:
        raise DataError(f"{shown}: arrays differ in length: {sorted(counts)}")
    if not len(data):
        raise DataError(f"{shown}: the {data.name} set is empty")
    labels, classes = data.labels, len(recipe.labels)
    if labels is not None and recipe.goal.metric == Metric.WITHIN.value:
        if labels.shape != (len(data),) or labels.dtype.kind not in "iuf" or not np.isfinite(labels).all():
            raise DataError(f"{shown}: `{LABEL}` must be one number a sample")
    elif labels is not None:
        if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
            raise DataError(f"{shown}: `{LABEL}` must be one whole number a sample")
        if classes and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
            raise DataError(f"{shown}: `{LABEL}` names classes outside 0…{classes - 1}")
    return data


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
