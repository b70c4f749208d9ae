"""What a search tries and learns: trials, what became of each, and what each layer loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converter.goals import Prefer
from converter.proof.comparison import Estimate
from converter.variants import Precision

__all__ = ["Judged", "LayerLoss", "Space", "Trial", "cost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A variant to be made: all layers in one precision, but for those raised to another."""

    precision: Precision
    raised: tuple[str, ...] = ()
    """Names of the layers that are given `to`, those that lose most per byte first."""
    to: Precision | None = None

    @property
    def name(self) -> str:
        """Short, and unique within a search."""
        return f"{self.precision.value}-{len(self.raised)}-raised" if self.raised else self.precision.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A trial, made and judged on the samples a search may look at."""

    trial: Trial
    size_bytes: int = 0
    drop: Estimate | None = None
    """None where it could not be made or run."""
    p50_us: int | None = None
    failure: str = ""
    """Why there is no variant, or why it is none whatever its metric."""

    def keeps(self, budget: float) -> bool:
        """Whether it may be shipped, by these samples."""
        return not self.failure and self.drop is not None and self.drop.value <= budget


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLoss:
    """What giving one layer a precision, and no other, does to the answers."""

    layer: str
    op: str
    weight_bytes: int
    loss: float
    """Energy of the difference over the energy of the float model's answers, on calibration samples."""

    @property
    def per_byte(self) -> float:
        """What raising it wins for what it costs."""
        return self.loss / max(1, self.weight_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a search may try, and what it wants."""

    candidates: tuple[Precision, ...]
    """Tried first, all layers alike."""
    mixable: frozenset[Precision]
    """Those whose pass takes layer rules."""
    raises: Mapping[Precision, Precision]
    """The next step up for layers of each mixable precision; the last is floats."""
    losses: Mapping[Precision, tuple[LayerLoss, ...]]
    """Where they were asked for; empty where they cannot be known."""
    budget: float
    prefer: Prefer
    max_trials: int


def cost(judged: Judged, prefer: Prefer) -> tuple[float, float]:
    """What a device pays, to be minimised; without a latency, by size alone."""
    latency = float("inf") if judged.p50_us is None else float(judged.p50_us)
    size = float(judged.size_bytes)
    return (latency, size) if prefer is Prefer.LATENCY else (size, latency)
