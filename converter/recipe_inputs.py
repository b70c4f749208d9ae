"""The recipe's inputs: tensors of the signature, and the steps by which raw values become them.

The steps are written as in a manifest, with `by` in place of `folded`; the contract's own parser reads them,
so that a recipe and a release have the same bounds. Two things are a recipe's alone: `normalise`, which
becomes an `affine`, and the path of a vocabulary in place of its digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from converter.errors import RecipeError
from converter.tables import Table
from ota_contract.documents import reader_of
from ota_contract.errors import FormatError
from ota_contract.preprocessing import InputSpec, Operation, Step, check_specs
from ota_contract.preprocessing_json import step_from
from ota_contract.preprocessing_steps import (
    MAX_VOCABULARY_BYTES,
    PARAMETERS,
    Affine,
    Decode,
    LogMel,
    Transpose,
    WordPiece,
)
from ota_contract.tensors import DYNAMIC, MAX_RANK, Datatype, Tensor

__all__ = ["InputPlan", "Inputs", "read_inputs", "read_tensor"]

_MAX_NAME = 64
_RAW_KEYS = ("raw_datatype", "raw_shape", "preprocessing")
_NORMALISE = "normalise"
_NORMALISE_KEYS = ("mean", "std", "scale", "axis")
_STEP_KEYS = tuple(
    dict.fromkeys(
        ("operation", "by", *(key for keys in PARAMETERS.values() for key in keys), *_NORMALISE_KEYS)
    )
)
_DECODED_LEVELS = 4.0
"""What two versions of libjpeg may differ by in a pixel; a swapped channel differs by far more."""
_LOG_MEL_DIFFERENCE = 1e-3
"""What two machines' Fourier transforms may differ by in a logarithm."""


class _By(Enum):
    """Who carries out a preprocessing step, in the order the steps run."""

    DEVICE = "device"
    CONVERTER = "converter"
    SOURCE = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """An input of the signature, and what the converter puts between it and the source model."""

    tensor: Tensor
    converter_steps: tuple[Step, ...]
    """The folded steps the source model lacks; the converter puts them into the graph."""

    @property
    def fed(self) -> Tensor:
        """What the steps make of the input, in shape and layout: what the source model takes."""
        shape, layout = self.tensor.shape, self.tensor.layout
        for step in self.converter_steps:
            if isinstance(step, Transpose):
                shape = tuple(shape[axis] for axis in step.axes)
                layout = "".join(layout[axis] for axis in step.axes) if layout else ""
        return replace(self.tensor, shape=shape, layout=layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything before the model."""

    plans: tuple[InputPlan, ...]
    preprocessing: tuple[InputSpec, ...]
    """For the manifest: steps that are not the device's are marked `folded`."""
    vocabularies: Mapping[str, Path]
    """The files that tokenizers need, by SHA-256."""


def read_inputs(root: Table, folder: Path, folded: tuple[Operation, ...]) -> Inputs:
    """Parse `[[input]]` and `[[raw]]`.

    Args:
        root: The recipe.
        folder: What paths in it are relative to.
        folded: The operations the converter can put into the source's graph.

    Raises:
        RecipeError: Malformed, or asking for what cannot be done.
    """
    tensor_keys = ("name", "datatype", "shape", "layout", "meaning")
    tables = root.tables("input", (*tensor_keys, *_RAW_KEYS))
    if not tables:
        root.fail("input", "missing; name at least one [[input]]")
    reader = _Steps(folder, folded)
    plans, specs = [], []
    for table in tables:
        tensor = read_tensor(table)
        spec, converters = reader.read(table, tensor.name, tensor)
        plans.append(InputPlan(tensor=tensor, converter_steps=converters))
        specs.append((table, spec))
    for table in root.tables("raw", ("name", *_RAW_KEYS)):
        spec, _ = reader.read(table, table.text("name"), None)
        specs.append((table, spec))
    made = {name for _, spec in specs if spec.tokenizer for name in spec.produces}
    kept = tuple(_kept(specs, made))
    tensors = {plan.tensor.name: plan.tensor for plan in plans}
    try:
        check_specs(kept, tensors.values(), reader.vocabularies)
    except FormatError as error:
        root.fail("input", str(error))
    return Inputs(plans=tuple(plans), preprocessing=kept, vocabularies=reader.vocabularies)


def read_tensor(table: Table) -> Tensor:
    """Parse one tensor of the signature.

    Raises:
        RecipeError: Malformed.
    """
    name, shape = table.text("name"), table.integers("shape")
    if not name or len(name) > _MAX_NAME:
        table.fail("name", f"use 1 to {_MAX_NAME} characters")
    if not shape or len(shape) > MAX_RANK or any(length != DYNAMIC and length < 1 for length in shape):
        table.fail("shape", f"use 1 to {MAX_RANK} lengths, each −1 (any) or at least 1")
    datatype = table.member("datatype", Datatype)
    if datatype is Datatype.BYTES:
        table.fail("datatype", "a model's tensors are not BYTES; a raw_datatype may be")
    return Tensor(
        name=name,
        datatype=datatype,
        shape=shape,
        layout=table.text("layout", ""),
        meaning=table.text("meaning", ""),
    )


def _kept(specs: list[tuple[Table, InputSpec]], made: set[str]) -> Iterator[InputSpec]:
    """All but the empty ones of inputs that a tokenizer makes."""
    for table, spec in specs:
        if spec.input not in made or spec.tokenizer is not None:
            yield spec
        elif any(table.has(key) for key in _RAW_KEYS):
            table.fail("name", f"{spec.input} is made by a tokenizer, and has no preprocessing of its own")


class _Steps:
    """Reads the steps of one recipe, and keeps which vocabularies they name."""

    def __init__(self, folder: Path, folded: tuple[Operation, ...]) -> None:
        self._folder = folder
        self._folded = folded
        self.vocabularies: dict[str, Path] = {}

    def read(self, table: Table, name: str, tensor: Tensor | None) -> tuple[InputSpec, tuple[Step, ...]]:
        """The way from one raw value, and the converter's part of it."""
        steps = [self._step(item) for item in table.tables("preprocessing", _STEP_KEYS)]
        self._check_order(table, [by for by, _ in steps])
        try:
            spec = InputSpec(
                input=name,
                raw_datatype=table.member(
                    "raw_datatype", Datatype, Datatype.BYTES if tensor is None else tensor.datatype
                ),
                raw_shape=table.integers("raw_shape") or ((DYNAMIC,) if tensor is None else tensor.shape),
                steps=tuple(step for _, step in steps),
            )
        except FormatError as error:
            table.fail("preprocessing", str(error))
        converters = tuple(step for by, step in steps if by is _By.CONVERTER)
        for step in converters:
            if isinstance(step, Transpose) and tensor is not None and len(step.axes) != len(tensor.shape):
                table.fail("preprocessing", f"{list(step.axes)} is no order of {len(tensor.shape)} axes")
        return replace(spec, tolerance=_tolerance(spec)), converters

    def _check_order(self, table: Table, parties: list[_By]) -> None:
        items = table.tables("preprocessing", _STEP_KEYS)
        order = list(_By)
        for item, last, by in zip(items[1:], parties, parties[1:], strict=False):
            if order.index(by) < order.index(last):
                item.fail("by", f"a step by the {by.value} cannot follow one by the {last.value}")

    def _step(self, item: Table) -> tuple[_By, Step]:
        by = item.member("by", _By)
        values = item.values()
        del values["by"]
        if values.get("operation") == _NORMALISE:
            step: Step = _normalise(item, values)
        else:
            step = self._declared(item, item.member("operation", Operation), values)
        if by is _By.CONVERTER and step.operation not in self._folded:
            known = " and ".join(f'"{known.value}"' for known in self._folded)
            item.fail("by", f'the converter folds {known} steps only; leave this one to the "device"')
        if by is not _By.DEVICE and isinstance(step, (Decode, WordPiece)):
            item.fail("by", 'no graph reads bytes; leave this one to the "device"')
        return by, replace(step, folded=by is not _By.DEVICE)

    def _declared(self, item: Table, operation: Operation, values: dict[str, Any]) -> Step:
        _check_keys(item, values, PARAMETERS[operation])
        if operation is Operation.WORDPIECE:
            values["vocabulary"] = self._vocabulary(item)
        return _parsed(item, values)

    def _vocabulary(self, item: Table) -> str:
        path = Path(os.path.normpath(self._folder / item.text("vocabulary")))
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_VOCABULARY_BYTES + 1)
        except OSError as error:
            item.fail("vocabulary", f"{path}: {error.strerror or error}")
        if len(data) > MAX_VOCABULARY_BYTES:
            item.fail("vocabulary", f"{path} is longer than {MAX_VOCABULARY_BYTES} bytes")
        digest = hashlib.sha256(data).hexdigest()
        self.vocabularies[digest] = path
        return digest


def _check_keys(item: Table, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in values:
        if key not in ("operation", *known):
            item.fail(key, f"{values['operation']} has no such parameter; it has {', '.join(known)}")


def _normalise(item: Table, values: dict[str, Any]) -> Step:
    """`(value * scale − mean) / std` as one affine step."""
    _check_keys(item, values, _NORMALISE_KEYS)
    scale = item.number("scale", 1.0, within=(-1e30, 1e30))
    mean, std = _numbers(item, values, "mean"), _numbers(item, values, "std")
    if len(mean) > 1 < len(std) and len(mean) != len(std):
        item.fail("std", f"{len(std)} channels, but the mean has {len(mean)}")
    if not all(number > 0 for number in std):
        item.fail("std", "must be above zero")
    count = max(len(mean), len(std))
    mean, std = mean * (count // len(mean)), std * (count // len(std))
    axis = {"axis": values["axis"]} if "axis" in values else {}
    return _parsed(
        item,
        {
            "operation": Operation.AFFINE.value,
            "scale": [scale / one for one in std],
            "offset": [-middle / one for middle, one in zip(mean, std, strict=True)],
            **axis,
        },
    )


def _numbers(item: Table, values: Mapping[str, Any], key: str) -> tuple[float, ...]:
    try:
        return reader_of(values, what="").numbers(key, max_items=4096)
    except FormatError:
        item.fail(key, "expected a number, or one for each channel")


def _parsed(item: Table, values: Mapping[str, Any]) -> Step:
    try:
        return step_from(reader_of(values, what=item.place))
    except FormatError as error:
        raise RecipeError(str(error)) from error


def _tolerance(spec: InputSpec) -> float:
    """How far another machine's tensors may be from the golden ones, after the device's own steps."""
    tolerance = 0.0
    for step in spec.active_steps:
        match step:
            case Decode():
                tolerance = _DECODED_LEVELS
            case LogMel():
                tolerance = _LOG_MEL_DIFFERENCE
            case Affine():
                tolerance *= max(map(abs, step.scale))
            case _:
                pass
    return tolerance
