"""The one executor of a release's preprocessing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from ota_contract.preprocessing import InputSpec, Operation, Step
from ota_contract.tensors import DYNAMIC, Datatype

__all__ = ["prepare"]


def prepare(specs: Iterable[InputSpec], raw: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Turn raw values into the model's input tensors; inputs without a spec pass through.

    Raises:
        InputError: A raw value is missing, or of another type or shape than the spec says.
    """
    tensors = dict(raw)
    for spec in specs:
        if spec.input not in raw:
            raise InputError(f"raw input {spec.input} is missing")
        array = raw[spec.input]
        _check_raw(spec, array)
        for step in spec.steps:
            if not step.folded:
                array = _apply(step, array, spec.input)
        tensors[spec.input] = array
    return tensors


def _check_raw(spec: InputSpec, array: AnyArray) -> None:
    fits = len(array.shape) == len(spec.raw_shape) and all(
        wanted in (DYNAMIC, length) for wanted, length in zip(spec.raw_shape, array.shape, strict=True)
    )
    if array.dtype != spec.raw_datatype.dtype or not fits:
        raise InputError(
            f"raw input {spec.input}: expected {spec.raw_datatype.value} of shape "
            f"{list(spec.raw_shape)}, got {array.dtype} of shape {list(array.shape)}"
        )


def _apply(step: Step, array: AnyArray, name: str) -> AnyArray:
    match step.operation:
        case Operation.RESHAPE:
            try:
                return array.reshape(step.shape)
            except ValueError as error:
                raise InputError(f"raw input {name}: {error}") from error
        case Operation.CAST:
            return _cast(array, step.datatype, name)
        case Operation.AFFINE:
            scaled = array.astype(np.float32) * np.float32(step.scale)
            return scaled + np.float32(step.offset)


def _cast(array: AnyArray, datatype: Datatype, name: str) -> AnyArray:
    target = np.dtype(datatype.dtype)
    if target.kind == "b":
        return array.astype(target)
    if target.kind == "f":
        greatest = np.finfo(target).max
        with np.errstate(over="ignore"):
            finite: AnyArray = np.clip(array.astype(target), -greatest, greatest)
        return finite
    if array.dtype.kind == "f":
        return _round(array, target, name)
    limits = np.iinfo(target)
    clipped: AnyArray = np.clip(array, limits.min, limits.max)
    return clipped.astype(target)


def _round(array: AnyArray, target: np.dtype[Any], name: str) -> AnyArray:
    """To the nearest integer, halves to the even one."""
    if np.isnan(array).any():
        raise InputError(f"raw input {name}: NaN has no place among integers")
    limits = np.iinfo(target)
    rounded = np.rint(array.astype(np.float64))
    # Compared, not clipped: the greatest INT64 is no double, and the nearest one, converted back, has the
    # wrong sign. So has the greatest INT32 in FP32.
    above, below = rounded >= float(limits.max), rounded <= float(limits.min)
    within: AnyArray = np.where(above | below, 0.0, rounded).astype(target)
    within[above], within[below] = limits.max, limits.min
    return within
