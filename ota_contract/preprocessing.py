"""The closed, declarative description of how a raw value becomes a model's input tensors.

One executor (`edge_runtime.preprocessing`) obeys it in calibration, evaluation, golden vectors and on
the device, so that training and serving cannot drift apart. A step marked `folded` is part of the
model's graph already: it documents what the graph does, and the executor skips it. The operations
themselves are in `ota_contract.preprocessing_steps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ota_contract.documents import Reader
from ota_contract.errors import FormatError
from ota_contract.preprocessing_json import step_from, step_to_json
from ota_contract.preprocessing_steps import (
    Decode,
    Operation,
    Step,
    WordPiece,
)
from ota_contract.tensors import DYNAMIC, MAX_RANK, Datatype, Tensor

__all__ = [
    "InputSpec",
    "Operation",
    "Step",
    "check_specs",
    "input_spec_from",
    "input_spec_to_json",
]

_MAX_STEPS = 16
_OF_BYTES = (Decode, WordPiece)
"""What makes numbers of bytes; nothing else can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """From one raw value to one input of the signature, or by a tokenizer to several."""

    input: str
    """The raw value's name; also the input's, except where a tokenizer names its own."""
    raw_datatype: Datatype
    raw_shape: tuple[int, ...]
    steps: tuple[Step, ...]
    tolerance: float = 0.0
    """Greatest difference from golden tensors that another machine's arithmetic may make."""

    def __post_init__(self) -> None:
        of_bytes = [index for index, step in enumerate(self.steps) if isinstance(step, _OF_BYTES)]
        raw = self.raw_datatype is Datatype.BYTES
        if of_bytes != ([0] if raw else []):
            raise FormatError(
                f"preprocessing of {self.input}: BYTES, and nothing else, begin with one decode or wordpiece"
            )
        if raw and len(self.raw_shape) != 1:
            raise FormatError(f"preprocessing of {self.input}: BYTES have one axis, the batch's")
        if self.tokenizer is not None and len(self.steps) > 1:
            raise FormatError(f"preprocessing of {self.input}: nothing follows a wordpiece")
        if not self.tolerance >= 0.0:
            raise FormatError(f"preprocessing of {self.input}: its tolerance is below zero")

    @property
    def tokenizer(self) -> WordPiece | None:
        """The step that makes several inputs, where there is one."""
        first = self.steps[0] if self.steps else None
        return first if isinstance(first, WordPiece) else None

    @property
    def produces(self) -> tuple[str, ...]:
        """The inputs of the signature it makes."""
        return (self.input,) if self.tokenizer is None else self.tokenizer.produces

    @property
    def active_steps(self) -> tuple[Step, ...]:
        """What is left to do outside of the graph."""
        return tuple(step for step in self.steps if not step.folded)


def input_spec_from(reader: Reader) -> InputSpec:
    """Parse the preprocessing of one raw value.

    Raises:
        FormatError: An unknown operation, a field out of bounds, or steps that cannot follow each other.
    """
    return InputSpec(
        input=reader.text("input", max_length=64),
        raw_datatype=reader.member("raw_datatype", Datatype),
        raw_shape=reader.integers("raw_shape", max_items=MAX_RANK, low=DYNAMIC, high=2**31 - 1),
        steps=tuple(map(step_from, reader.objects("steps", max_items=_MAX_STEPS))),
        tolerance=reader.number("tolerance", default=0.0),
    )


def input_spec_to_json(spec: InputSpec) -> dict[str, Any]:
    """The inverse of `input_spec_from`."""
    content: dict[str, Any] = {
        "input": spec.input,
        "raw_datatype": spec.raw_datatype.value,
        "raw_shape": list(spec.raw_shape),
        "steps": [step_to_json(step) for step in spec.steps],
    }
    return {**content, "tolerance": spec.tolerance} if spec.tolerance else content


def check_specs(specs: Iterable[InputSpec], inputs: Iterable[Tensor], vocabularies: Iterable[str]) -> None:
    """Refuse preprocessing that does not fit a signature and the vocabularies at hand.

    Args:
        specs: One for each raw value.
        inputs: The signature.
        vocabularies: SHA-256 of each vocabulary file.

    Raises:
        FormatError: An input is made twice or is not there, a raw value has another input's name, or a
            vocabulary is missing or used by nothing.
    """
    specs, tensors = tuple(specs), {tensor.name: tensor for tensor in inputs}
    made = [name for spec in specs for name in spec.produces]
    if not set(made) <= tensors.keys():
        raise FormatError("preprocessing names an input the signature lacks")
    if len(set(made)) != len(made):
        raise FormatError("preprocessing names an input twice")
    for spec in specs:
        if spec.input in tensors and spec.input not in spec.produces:
            raise FormatError(f"preprocessing takes a raw value by the name of another input, {spec.input}")
        _check_tokens(spec, tensors)
    if len({spec.input for spec in specs}) != len(specs):
        raise FormatError("preprocessing takes a raw value twice")
    used = {spec.tokenizer.vocabulary for spec in specs if spec.tokenizer}
    at_hand = set(vocabularies)
    if used - at_hand:
        raise FormatError(
            f"preprocessing needs vocabulary {min(used - at_hand)}, which is not among the assets"
        )
    if at_hand - used:
        raise FormatError(f"asset {min(at_hand - used)} is used by no preprocessing")


def _check_tokens(spec: InputSpec, tensors: Mapping[str, Tensor]) -> None:
    step = spec.tokenizer
    for name in spec.produces if step else ():
        tensor = tensors[name]
        if step and (tensor.datatype is not step.datatype or tensor.shape[1:] != (step.length,)):
            raise FormatError(
                f"the tokenizer makes {name} as {step.datatype.value} of shape [-1, {step.length}], "
                f"the signature says {tensor.datatype.value} of shape {list(tensor.shape)}"
            )
