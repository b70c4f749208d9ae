"""The layers of a model file as layer rules name them, and which precision each is given.

What a layer is called is the format's affair (`converter.passes.list_layers`): an ONNX node's name, the first
tensor a TFLite operator makes, the first value a Core ML operation makes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.errors import RouteError
from converter.variants import LayerRule, Precision

__all__ = ["Layer", "assigned", "check_options", "layer_facts", "read_layers"]

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of a float model file."""

    layer: str
    """What `LayerRule.layer` is matched with."""
    op: str
    """What `LayerRule.op` is matched with."""
    weight_bytes: int
    """Of its own weights of two dimensions and more; without any, only its arithmetic can change."""


def assigned(
    layers: Sequence[Layer], rules: Iterable[LayerRule], *, default: Precision
) -> Mapping[str, Precision]:
    """The precision of every layer by name: that of the first rule that matches it, else the variant's.

    Raises:
        RouteError: A rule matches nothing; some layers near it are named.
    """
    rules = tuple(rules)
    for rule in rules:
        if not any(rule.matches(op=layer.op, layer=layer.layer) for layer in layers):
            raise RouteError(_nothing_matches(rule, layers))
    return {
        layer.layer: next(
            (rule.precision for rule in rules if rule.matches(op=layer.op, layer=layer.layer)), default
        )
        for layer in layers
    }


def check_options(
    given: Mapping[str, Precision],
    params: Mapping[str, Any],
    used_by: Mapping[str, frozenset[Precision]],
) -> None:
    """Refuse an option that would change nothing, instead of letting its author believe otherwise.

    Args:
        given: The precision of every layer.
        params: A job's; those among them that `used_by` names are looked at.
        used_by: For each option the precisions it has a meaning for.

    Raises:
        RouteError: No layer is of such a precision.
    """
    for key, precisions in used_by.items():
        if key in params and not precisions.intersection(given.values()):
            known = ", ".join(sorted(precision.value for precision in precisions))
            raise RouteError(f"`{key}` changes nothing: it is for {known}, and no layer is of these")


def layer_facts(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """As a pass's facts tell of them; `read_layers` reads them back."""
    return [{"layer": item.layer, "op": item.op, "weight_bytes": item.weight_bytes} for item in layers]


def read_layers(facts: Mapping[str, Any]) -> tuple[Layer, ...]:
    """The layers in the facts of `converter.passes.list_layers`."""
    return tuple(
        Layer(layer=item["layer"], op=item["op"], weight_bytes=item["weight_bytes"])
        for item in facts["layers"]
    )


def _nothing_matches(rule: LayerRule, layers: Sequence[Layer]) -> str:
    key, pattern = ("op", rule.op) if rule.op else ("layer", rule.layer)
    names = list(dict.fromkeys(layer.op if rule.op else layer.layer for layer in layers))
    near = difflib.get_close_matches(pattern, names, n=_NAMED, cutoff=0.4) or names[:_NAMED]
    return f"no {key} of the model matches {pattern!r}; near it are {', '.join(near) or 'none'}"
