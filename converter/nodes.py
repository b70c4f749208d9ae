"""What the routes are made of: the formats, the states a model can be in, and the passes between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from converter.variants import Precision
from ota_contract.manifest import Runtime

__all__ = ["Format", "Node", "Pass"]


class Format(Enum):
    """A kind of model file."""

    KERAS = "keras"
    ONNX_SOURCE = "onnx-source"
    """As somebody exported it; what runs on devices is made of it."""
    SKLEARN = "sklearn"
    TORCH = "torch"
    SAVEDMODEL = "savedmodel"
    TFLITE = "tflite"
    ONNX = "onnx"
    COREML = "coreml"

    @property
    def runtime(self) -> Runtime | None:
        """What runs such a file on a device; None for a format that is a source only."""
        return Runtime(self.value) if self.value in {item.value for item in Runtime} else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A state a model can be in."""

    format: Format
    layout: str
    precision: Precision

    @property
    def id(self) -> str:
        """A short unique name, which is the variant's id where a runtime runs it."""
        return f"{self.format.value}-{self.precision.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A change from one node to another by one tool."""

    id: str
    """Also the module in `converter.passes`, unless one is named."""
    source: Node
    target: Node
    needs: tuple[str, ...]
    """Distributions that must be installed."""
    reason: str
    params: Mapping[str, str | int | bool] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    """The options of a recipe's variant (`converter.variants.Options`) it obeys."""
    module: str = ""
    """The module that does it: of `converter.passes`, or with its package's name, as plug-ins have it."""
    calibrated: bool = False
    """Whether it may look at the calibration set."""
    hides: tuple[str, ...] = ()
    """Packages its tools would import for nothing, where they are installed."""
    checks_source: bool = False
    """Whether it examines the source for all: everything else waits for it."""

    @property
    def code(self) -> str:
        """The name of the job that does it, by which its module is found."""
        return self.module or self.id

    @property
    def extra(self) -> str:
        """The extra of this distribution that installs what it needs."""
        known = {
            Format.KERAS: "keras",
            Format.SAVEDMODEL: "keras",
            Format.SKLEARN: "sklearn",
            Format.TORCH: "torch",
        }
        if "ai-edge-quantizer" in self.needs:
            return "quantizer"
        return known.get(self.source.format, "torch" if "torch" in self.needs else "converter")
