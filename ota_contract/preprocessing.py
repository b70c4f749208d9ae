"""The closed, declarative description of how a raw input becomes a model's input tensor.

One executor (`edge_runtime.preprocessing`) obeys it in calibration, evaluation, golden vectors and on
the device, so that training and serving cannot drift apart. A step marked `folded` is part of the
model's graph already: it documents what the graph does, and the executor skips it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from ota_contract.documents import Reader
from ota_contract.tensors import DYNAMIC, MAX_RANK, Datatype

__all__ = ["InputSpec", "Operation", "Step", "input_spec_from", "input_spec_to_json"]

_MAX_STEPS = 16


class Operation(Enum):
    """What a step does to the array."""

    RESHAPE = "reshape"
    """To `shape`; one −1 is worked out from the rest."""
    CAST = "cast"
    """To `datatype`, saturating at its range."""
    AFFINE = "affine"
    """`value * scale + offset`, in FP32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation with its parameters; those it does not use hold their defaults."""

    operation: Operation
    folded: bool = False
    shape: tuple[int, ...] = ()
    datatype: Datatype = Datatype.FP32
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """From one raw value to one input of the signature."""

    input: str
    raw_datatype: Datatype
    raw_shape: tuple[int, ...]
    steps: tuple[Step, ...]


def input_spec_from(reader: Reader) -> InputSpec:
    """Parse the preprocessing of one input.

    Raises:
        FormatError: An unknown operation, or a field out of bounds.
    """
    return InputSpec(
        input=reader.text("input", max_length=64),
        raw_datatype=reader.member("raw_datatype", Datatype),
        raw_shape=_shape(reader, "raw_shape"),
        steps=tuple(map(_step_from, reader.objects("steps", max_items=_MAX_STEPS))),
    )


def input_spec_to_json(spec: InputSpec) -> dict[str, Any]:
    """The inverse of `input_spec_from`."""
    return {
        "input": spec.input,
        "raw_datatype": spec.raw_datatype.value,
        "raw_shape": list(spec.raw_shape),
        "steps": [_step_to_json(step) for step in spec.steps],
    }


def _step_from(reader: Reader) -> Step:
    operation = reader.member("operation", Operation)
    folded = reader.boolean("folded", default=False)
    match operation:
        case Operation.RESHAPE:
            shape = _shape(reader, "shape")
            if shape.count(DYNAMIC) > 1:
                reader.fail("shape", "at most one dimension can be worked out from the rest")
            return Step(operation=operation, folded=folded, shape=shape)
        case Operation.CAST:
            datatype = reader.member("datatype", Datatype)
            return Step(operation=operation, folded=folded, datatype=datatype)
        case Operation.AFFINE:
            return Step(
                operation=operation,
                folded=folded,
                scale=reader.number("scale"),
                offset=reader.number("offset"),
            )


def _step_to_json(step: Step) -> dict[str, Any]:
    fields: dict[Operation, dict[str, Any]] = {
        Operation.RESHAPE: {"shape": list(step.shape)},
        Operation.CAST: {"datatype": step.datatype.value},
        Operation.AFFINE: {"scale": step.scale, "offset": step.offset},
    }
    common = {"operation": step.operation.value, "folded": step.folded}
    return {**common, **fields[step.operation]}


def _shape(reader: Reader, key: str) -> tuple[int, ...]:
    return reader.integers(key, max_items=MAX_RANK, low=DYNAMIC, high=2**31 - 1)
