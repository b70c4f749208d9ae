"""Errors of turning a model into a package.

ConverterError
├── RecipeError        the recipe is missing, malformed, or asks for what this version cannot do
├── SourceError        the source model is missing, unreadable, or could run code when opened
├── DataError          a data set is missing, malformed, or would make a figure meaningless
├── RouteError         no chain of passes leads to a variant, or a pass's packages are not installed
│   └── OperatorRefusedError  a pass cannot convert an operator of the source, or this use of it
├── DeltaRefusedError  packages that no delta can lead between, or a delta that would be wrong
├── UnsupportedOperationError  the reference evaluator does not know an operation of a Core ML model
├── PassError          a pass failed, ran out of time or memory, or damaged the model
└── OutputError        the package folder cannot be written where it was asked for

None of them leaves anything half-written: a package that was there before is untouched.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from ota_contract.errors import FerryError

__all__ = [
    "ConverterError",
    "DataError",
    "DeltaRefusedError",
    "OperatorRefusedError",
    "OutputError",
    "PassError",
    "Reason",
    "RecipeError",
    "RouteError",
    "SourceError",
    "UnsupportedOperationError",
]


class ConverterError(FerryError):
    """Root of what converting can raise."""


class RecipeError(ConverterError):
    """The recipe cannot be obeyed; the message names file and key."""


class SourceError(ConverterError):
    """The source model was refused, if possible before anything opened it."""


class DataError(ConverterError):
    """A data set does not fit the recipe, or overlaps another."""


class RouteError(ConverterError):
    """There is no way from the source to a variant with what is installed here."""


class OperatorRefusedError(RouteError):
    """An operator, or a use of one, has no equal in the target; the message names it."""


class DeltaRefusedError(ConverterError):
    """The packages are of two models, too many, or a delta between them would make another file."""


class UnsupportedOperationError(ConverterError):
    """A Core ML model uses what the reference evaluator does not know: nothing is proven of it."""

    def __init__(self, operation: str, why: str = "not known to the reference evaluator") -> None:
        """Name the operation, or whatever else of the model it is."""
        self.operation = operation
        super().__init__(f"{operation}: {why}")


class OutputError(ConverterError):
    """The output folder holds something that is not a package, or cannot be written."""


class Reason(Enum):
    """Why a pass failed, for programs."""

    RAISED = "raised"
    """The tool behind the pass raised."""
    CRASHED = "crashed"
    """The process died without an answer."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    SOURCE = "source"
    """The source model cannot be loaded safely, or does not fit the recipe."""
    NOT_FINITE = "not_finite"
    """NaN or infinity, in weights or answers."""
    PARITY = "parity"
    """The answers are not the source's."""
    UNCHANGED = "unchanged"
    """The pass claims to have changed the model and did not."""
    CANCELLED = "cancelled"


class PassError(ConverterError):
    """A pass failed; `log` holds everything it said."""

    def __init__(
        self, name: str, reason: Reason, message: str, *, fault: str = "", log: Path | None = None
    ) -> None:
        """Say which pass failed, why, at what of the model, and where its whole output is."""
        self.pass_name = name
        self.reason = reason
        self.message = message
        self.fault = fault
        """Operator and layer, as far as a tool's error names them: see `converter.blame`."""
        self.log = log
        place = f"{fault}: " if fault else ""
        tail = f"; its log is {log}" if log else ""
        super().__init__(f"{name} failed ({reason.value}): {place}{message}{tail}")
