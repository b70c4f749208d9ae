"""The one executor of a release's preprocessing.

`Preprocessing` is made once for a release and then turns raw values into tensors. What decodes, resizes,
tokenizes or transforms is in modules of its own, imported when a step needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from edge_runtime.arrays import as_bytes
from edge_runtime.errors import InputError, PackageError
from edge_runtime.port import AnyArray, RawValue
from ota_contract.manifest import Release
from ota_contract.preprocessing import InputSpec, Step
from ota_contract.preprocessing_steps import (
    Affine,
    Cast,
    Crop,
    Decode,
    FitLength,
    LogMel,
    Reshape,
    Resize,
    Transpose,
    WordPiece,
)
from ota_contract.tensors import DYNAMIC, Datatype

__all__ = ["Preprocessing", "affine_operands", "prepare"]

_ONE_BY_ONE = (Decode, Resize, Crop)
"""Samples may differ in size before these; a whole set of decoded photographs fits no memory."""


class Preprocessing:
    """What makes a model's input tensors of raw values; safe to use from several threads."""

    def __init__(self, specs: Iterable[InputSpec], vocabularies: Mapping[str, bytes] | None = None) -> None:
        """Get ready.

        Args:
            specs: One for each raw value.
            vocabularies: The files that tokenizers need, by SHA-256; their bytes are verified already.

        Raises:
            PackageError: A vocabulary is missing or is not one.
        """
        self._plans = tuple(
            _Plan(
                spec=spec,
                # Found once: numpy takes ten microseconds to make a type of its name, each time.
                dtype=np.dtype(spec.raw_datatype.dtype),
                steps=spec.active_steps,
                tokenizer=None if spec.tokenizer is None else _tokenizer(spec.tokenizer, vocabularies or {}),
            )
            for spec in specs
        )

    @classmethod
    def of_release(cls, release: Release, folder: Path) -> Self:
        """The preprocessing of a release whose verified files lie in a folder.

        Raises:
            PackageError: A vocabulary cannot be read, or is not one.
        """
        vocabularies = {}
        for asset in release.assets:
            try:
                vocabularies[asset.sha256] = (folder / asset.path).read_bytes()
            except OSError as error:
                raise PackageError(f"{folder / asset.path}: {error.strerror}") from error
        return cls(release.preprocessing, vocabularies)

    def prepare(self, raw: Mapping[str, RawValue]) -> dict[str, AnyArray]:
        """Turn raw values into the model's input tensors; inputs without a spec pass through.

        Args:
            raw: Values by name. BYTES may also be `bytes` or `str` (a batch of one), a list of those, or an
                array of them.

        Raises:
            InputError: A raw value is missing, of another type or shape than the spec says, or out of bounds.
            RuntimeNotInstalledError: A step needs a package that is not installed.
        """
        tensors: dict[str, Any] = dict(raw)
        for plan in self._plans:
            name = plan.spec.input
            if name not in raw:
                raise InputError(f"raw input {name} is missing")
            try:
                tensors.update(plan.made(tensors.pop(name)))
            except InputError as error:
                raise InputError(f"raw input {name}: {error}") from error
        return tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be done with one raw value."""

    spec: InputSpec
    dtype: np.dtype[Any]
    steps: tuple[Step, ...]
    """Without those that the graph does."""
    tokenizer: Any
    """Of `edge_runtime.wordpiece`, which few models need; else None."""

    def made(self, value: RawValue) -> Mapping[str, AnyArray]:
        if self.spec.raw_datatype is not Datatype.BYTES:
            array = self._checked(value)
            return {self.spec.input: _run(self.steps, array) if self.steps else array}
        elements = as_bytes(value)
        if self.spec.raw_shape[0] not in (DYNAMIC, len(elements)):
            raise InputError(f"{len(elements)} elements, expected {self.spec.raw_shape[0]}")
        if self.tokenizer is not None:
            return dict(self.tokenizer.numbers(elements))
        return {self.spec.input: _run(self.steps, elements)}

    def _checked(self, array: RawValue) -> AnyArray:
        if not isinstance(array, np.ndarray):
            raise InputError(f"expected a numpy array, got {type(array).__name__}")
        wanted = self.spec.raw_shape
        if array.dtype != self.dtype or not _admits(wanted, array.shape):
            raise InputError(
                f"expected {self.spec.raw_datatype.value} of shape {list(wanted)}, "
                f"got {array.dtype} of shape {list(array.shape)}"
            )
        return array


def _admits(wanted: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if len(wanted) != len(shape):
        return False
    for asked, length in zip(wanted, shape, strict=True):  # noqa: SIM110 - `all` costs a microsecond more
        if asked not in (DYNAMIC, length):
            return False
    return True


def prepare(
    specs: Iterable[InputSpec],
    raw: Mapping[str, RawValue],
    vocabularies: Mapping[str, bytes] | None = None,
) -> dict[str, AnyArray]:
    """`Preprocessing.prepare`, once."""
    return Preprocessing(specs, vocabularies).prepare(raw)


def affine_operands(step: Affine) -> tuple[AnyArray, AnyArray]:
    """Scale and offset in FP32, in shapes that spread over the value: for whoever folds them into a graph."""
    scale = np.array(step.scale, np.float32).reshape(step.operand_shape(step.scale))
    offset = np.array(step.offset, np.float32).reshape(step.operand_shape(step.offset))
    return scale, offset


def _tokenizer(step: WordPiece, vocabularies: Mapping[str, bytes]) -> Any:  # noqa: ANN401 - imported late
    from edge_runtime.wordpiece import Tokenizer  # noqa: PLC0415 - most models have none

    if step.vocabulary not in vocabularies:
        raise PackageError(f"vocabulary {step.vocabulary} is missing")
    return Tokenizer(step, vocabularies[step.vocabulary])


def _run(steps: Sequence[Step], value: AnyArray | Sequence[bytes]) -> AnyArray:
    if any(isinstance(step, _ONE_BY_ONE) for step in steps) and len(value) != 1:
        made = [_run(steps, value[row : row + 1]) for row in range(len(value))]
        if not made:
            raise InputError("an empty batch has no images")
        if len({part.shape[1:] for part in made}) != 1:
            raise InputError("the samples of a batch have different shapes; resize them first")
        return np.concatenate(made)
    for step in steps:
        value = _apply(step, value)
    return np.asarray(value)


def _apply(step: Step, value: Any) -> AnyArray:  # noqa: ANN401 - an array, or the elements of BYTES
    match step:
        case Reshape():
            try:
                reshaped: AnyArray = value.reshape(step.shape)
            except ValueError as error:
                raise InputError(str(error)) from error
            return reshaped
        case Cast():
            return _cast(value, step.datatype)
        case Affine():
            return _affine(step, value)
        case Transpose():
            if len(step.axes) != value.ndim:
                raise InputError(f"{value.ndim} axes cannot be ordered as {list(step.axes)}")
            return np.ascontiguousarray(value.transpose(step.axes))
        case FitLength():
            kept = value[..., : step.length]
            free = step.length - kept.shape[-1]
            return np.pad(kept, [(0, 0)] * (value.ndim - 1) + [(0, free)])
        case _:
            return _apply_image_or_sound(step, value)


def _apply_image_or_sound(step: Step, value: Any) -> AnyArray:  # noqa: ANN401
    from edge_runtime import images, log_mel  # noqa: PLC0415 - most models need neither

    match step:
        case Decode():
            return images.decode(step, value)
        case Resize():
            return images.resize(step, value)
        case Crop():
            return images.crop(step, value)
        case LogMel():
            return log_mel.log_mel(step, value)
        case _:
            raise InputError(f"no {step.operation.value} can be done here")


def _affine(step: Affine, array: AnyArray) -> AnyArray:
    longest = max(len(step.scale), len(step.offset))
    if longest > 1 and (array.ndim < -step.axis or array.shape[step.axis] != longest):
        raise InputError(f"{longest} channels do not meet axis {step.axis} of shape {list(array.shape)}")
    scale, offset = affine_operands(step)
    return np.asarray(array.astype(np.float32) * scale + offset)


def _cast(array: AnyArray, datatype: Datatype) -> AnyArray:
    target = np.dtype(datatype.dtype)
    if target.kind == "b":
        return array.astype(target)
    if target.kind == "f":
        greatest = np.finfo(target).max
        with np.errstate(over="ignore"):
            finite: AnyArray = np.clip(array.astype(target), -greatest, greatest)
        return finite
    if array.dtype.kind == "f":
        return _round(array, target)
    limits = np.iinfo(target)
    clipped: AnyArray = np.clip(array, limits.min, limits.max)
    return clipped.astype(target)


def _round(array: AnyArray, target: np.dtype[Any]) -> AnyArray:
    """To the nearest integer, halves to the even one."""
    if np.isnan(array).any():
        raise InputError("NaN has no place among integers")
    limits = np.iinfo(target)
    rounded = np.rint(array.astype(np.float64))
    # Compared, not clipped: the greatest INT64 is no double, and the nearest one, converted back, has the
    # wrong sign. So has the greatest INT32 in FP32.
    above, below = rounded >= float(limits.max), rounded <= float(limits.min)
    within: AnyArray = np.where(above | below, 0.0, rounded).astype(target)
    within[above], within[below] = limits.max, limits.min
    return within
