"""What each layer of a runtime loses in a precision, and what is said of it in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from converter.errors import PassError
from converter.phases import Phases
from converter.plans import Planned
from converter.search.trials import LayerLoss
from converter.variants import Precision
from ota_contract.manifest import Release, Runtime

__all__ = ["Sensitivity", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The layers of one runtime's float model in one precision."""

    runtime: Runtime
    precision: Precision
    losses: tuple[LayerLoss, ...]
    caption: str
    """How many were examined, and how."""

    def value(self) -> dict[str, Any]:
        """As the report holds it."""
        return {
            "runtime": self.runtime.value,
            "precision": self.precision.value,
            "caption": self.caption,
            "layers": [asdict(loss) for loss in self.losses],
        }


def examine(phases: Phases, release: Release, item: Planned) -> Sensitivity:
    """Examine the layers of what a planned pass reads; where that fails, the caption says so."""
    runtime = item.node.format.runtime or Runtime.ONNX
    precision = item.node.precision
    try:
        facts = phases.examine(release, item)
    except PassError as error:
        if error.log is not None:
            error.log.unlink(missing_ok=True)
        caption = f"The layers could not be examined: {error.message}."
        return Sensitivity(runtime=runtime, precision=precision, losses=(), caption=caption)
    losses = tuple(LayerLoss(**loss) for loss in facts["losses"])
    return Sensitivity(
        runtime=runtime, precision=precision, losses=losses, caption=_caption(precision, facts)
    )


def _caption(precision: Precision, facts: Mapping[str, Any]) -> str:
    done, weighted, refused = len(facts["losses"]), facts["weighted"], facts["refused"]
    how = (
        f"Each layer alone in {precision.value}: energy of the difference over energy of the answers, "
        f"on {facts['samples']} calibration samples."
    )
    count = f"{done} of {weighted} layers with weights were examined"
    rest = weighted - done - refused
    kinds = [f"{refused} cannot be in {precision.value}"] if refused else []
    kinds += [f"there was no time for the {rest} smallest"] if rest else []
    return f"{how} {'; '.join((count, *kinds))}."
