"""What a recipe may ask for: a runtime, a precision, and how the precision is reached.

One dialect for every runtime. What a runtime or a pass cannot do of it is refused by `converter.plans`,
never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from converter.tables import Table
from ota_contract.manifest import Runtime

__all__ = [
    "Calibration",
    "LayerRule",
    "Options",
    "Precision",
    "Search",
    "Target",
    "read_rules",
    "read_targets",
]

_AUTO = "auto"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_VARIANT_KEYS = ("runtime", "precision", "id")
_OPTION_KEYS = ("calibration", "per_channel", "reduce_range", "block_size", "layers")
_SEARCH_KEYS = ("candidates",)
_LONGEST_PATTERN = 512
_BLOCK_SIZES = (16, 32, 64, 128, 256)


class Precision(Enum):
    """The number format most of a variant's arithmetic, or of its weights, is in."""

    FP32 = "fp32"
    FP16 = "fp16"
    MIXED = "mixed"
    """Half floats, and single ones where half floats lose too much."""
    INT8 = "int8"
    """Weights and activations, with ranges from the calibration set."""
    INT8_DYNAMIC = "int8-dynamic"
    """Weights; activations are quantized as they come, and the arithmetic is in integers."""
    INT8_WEIGHTS = "int8-weights"
    """Weights alone: the arithmetic is in floats."""
    INT16X8 = "int16x8"
    """Activations in 16 bits, weights in 8."""
    INT4_WEIGHTS = "int4-weights"
    PALETTE8 = "palette8"
    """Weights are indices of 8 bits into a table of values; so for the fewer bits below."""
    PALETTE6 = "palette6"
    PALETTE4 = "palette4"
    PALETTE3 = "palette3"
    PALETTE2 = "palette2"


class Calibration(Enum):
    """How a range is chosen from the values seen on the calibration set."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """Gives what it matches another precision than the variant's; the first that matches counts."""

    op: str = ""
    """Regular expression over the whole name of an operator type, as the runtime's format names it."""
    layer: str = ""
    """Regular expression over the whole name of a layer (a node, or the tensor it makes)."""
    precision: Precision

    def matches(self, *, op: str, layer: str) -> bool:
        """Whether a layer with this operator is meant."""
        if self.op:
            return re.fullmatch(self.op, op) is not None
        return re.fullmatch(self.layer, layer) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a variant's precision is reached; None leaves the choice to the pass."""

    calibration: Calibration | None = None
    per_channel: bool | None = None
    reduce_range: bool | None = None
    """Seven-bit weights, which do not saturate on x86 CPUs without VNNI."""
    block_size: int | None = None
    """Consecutive weights that share a scale, of four-bit weights."""
    rules: tuple[LayerRule, ...] = ()

    def params(self) -> dict[str, Any]:
        """What is stated, as a job's parameters; `read_rules` reads the rules back."""
        stated: dict[str, Any] = {
            "calibration": self.calibration and self.calibration.value,
            "per_channel": self.per_channel,
            "reduce_range": self.reduce_range,
            "block_size": self.block_size,
            "layers": [_rule_value(rule) for rule in self.rules] or None,
        }
        return {key: value for key, value in stated.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A variant asked for."""

    runtime: Runtime
    precision: Precision
    options: Options = field(default_factory=Options)
    name: str = ""
    """Its id where the recipe gives one."""

    @property
    def id(self) -> str:
        """Its id in the manifest."""
        return self.name or f"{self.runtime.value}-{self.precision.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A variant to be found: `precision = "auto"`."""

    runtime: Runtime
    name: str = ""
    candidates: tuple[Precision, ...] = ()
    """Precisions to begin with; empty means all that a route of the runtime gives."""

    @property
    def id(self) -> str:
        """The id in the manifest of what is found."""
        return self.name or f"{self.runtime.value}-{_AUTO}"


def read_targets(root: Table) -> tuple[tuple[Target, ...], tuple[Search, ...]]:
    """The variants of a recipe: those named, and those to be searched for.

    Raises:
        RecipeError: None, one twice, or one that is not in the dialect.
    """
    tables = root.tables("variant", (*_VARIANT_KEYS, *_OPTION_KEYS, *_SEARCH_KEYS))
    if not tables:
        root.fail("variant", "missing; ask for at least one [[variant]]")
    targets: list[Target] = []
    searches: list[Search] = []
    for table in tables:
        item = _search(table) if table.text("precision") == _AUTO else _target(table)
        if item.id in {other.id for other in targets} | {other.id for other in searches}:
            table.fail("precision", f"{item.id} is asked for twice; give one of them an `id` of its own")
        if isinstance(item, Search):
            searches.append(item)
        else:
            targets.append(item)
    return tuple(targets), tuple(searches)


def read_rules(params: Mapping[str, Any]) -> tuple[LayerRule, ...]:
    """The layer rules among a job's parameters."""
    return tuple(
        LayerRule(op=item["op"], layer=item["layer"], precision=Precision(item["precision"]))
        for item in params.get("layers", ())
    )


def _target(table: Table) -> Target:
    for key in _SEARCH_KEYS:
        if table.has(key):
            table.fail(key, f'only a variant of precision = "{_AUTO}" is searched for')
    return Target(
        runtime=table.member("runtime", Runtime),
        precision=table.member("precision", Precision),
        options=_options(table),
        name=_name(table),
    )


def _search(table: Table) -> Search:
    for key in _OPTION_KEYS:
        if table.has(key):
            table.fail(key, f'precision = "{_AUTO}" chooses that itself')
    candidates = []
    for index, text in enumerate(table.texts("candidates")):
        known = {member.value: member for member in Precision}
        if text not in known:
            table.fail("candidates", f"item {index}: {text!r} is none of {', '.join(known)}")
        candidates.append(known[text])
    return Search(runtime=table.member("runtime", Runtime), name=_name(table), candidates=tuple(candidates))


def _name(table: Table) -> str:
    name = table.text("id", "")
    if name and not _NAME.fullmatch(name):
        table.fail("id", f"{name!r}: use lower-case letters, digits, dots and hyphens, at most 63")
    return name


def _options(table: Table) -> Options:
    block_size = table.integer("block_size") if table.has("block_size") else None
    if block_size is not None and block_size not in _BLOCK_SIZES:
        table.fail("block_size", f"use one of {', '.join(map(str, _BLOCK_SIZES))}")
    return Options(
        calibration=table.member("calibration", Calibration) if table.has("calibration") else None,
        per_channel=table.truth("per_channel") if table.has("per_channel") else None,
        reduce_range=table.truth("reduce_range") if table.has("reduce_range") else None,
        block_size=block_size,
        rules=tuple(_rule(item) for item in table.tables("layers", ("op", "layer", "precision"))),
    )


def _rule(table: Table) -> LayerRule:
    op, layer = table.text("op", ""), table.text("layer", "")
    if bool(op) == bool(layer):
        table.fail("layer", "give either `op` or `layer`, a regular expression over the whole name")
    key, pattern = ("op", op) if op else ("layer", layer)
    if len(pattern) > _LONGEST_PATTERN:
        table.fail(key, f"longer than {_LONGEST_PATTERN} characters")
    try:
        re.compile(pattern)
    except re.error as error:
        table.fail(key, f"not a regular expression: {error}")
    return LayerRule(op=op, layer=layer, precision=table.member("precision", Precision))


def _rule_value(rule: LayerRule) -> dict[str, str]:
    return {"op": rule.op, "layer": rule.layer, "precision": rule.precision.value}
