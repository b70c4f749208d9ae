"""Shapes that operators ask for, worked out from fixed lengths and constant inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from converter.onnx_importing.node import Node

__all__ = [
    "Taken",
    "flattened",
    "padding_of",
    "reduced_axes",
    "reshaped",
    "sizes_of_parts",
    "slices_of",
    "squeezed",
    "unsqueezed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The places a slice takes along one axis."""

    begin: int
    """The least of them."""
    end: int
    """One past the greatest."""
    step: int
    """At least 1."""
    turned: bool
    """Whether the greatest comes first."""


def reshaped(node: Node) -> list[int]:
    """The shape a Reshape makes."""
    own, wanted = node.shape(0), node.integers(1, "lengths")
    if not node.attr("allowzero", 0):
        wanted = [own[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(length for length in wanted if length != -1)
        wanted = [math.prod(own) // rest if length == -1 else length for length in wanted]
    return wanted


def flattened(node: Node) -> list[int]:
    """The shape a Flatten makes."""
    own, axis = node.shape(0), node.attr("axis", 1)
    axis = axis + len(own) if axis < 0 else axis
    return [math.prod(own[:axis]), math.prod(own[axis:])]


def squeezed(node: Node) -> list[int]:
    """The shape a Squeeze makes."""
    own = node.shape(0)
    axes = node.integers(1, "axes") if node.has(1) else node.attr("axes")
    if axes is None:
        axes = [axis for axis, length in enumerate(own) if length == 1]
    gone = {axis % len(own) for axis in axes}
    return [length for axis, length in enumerate(own) if axis not in gone]


def unsqueezed(node: Node) -> list[int]:
    """The shape an Unsqueeze makes."""
    own = list(node.shape(0))
    axes = node.integers(1, "axes") if node.has(1) else list(node.attr("axes"))
    for axis in sorted(axis % (len(own) + len(axes)) for axis in axes):
        own.insert(axis, 1)
    return own


def sizes_of_parts(node: Node) -> list[int]:
    """The lengths of a Split's parts along its axis.

    Raises:
        OperatorRefusedError: A part of no length.
    """
    length = node.shape(0)[node.axis(0)]
    if node.has(1):
        sizes = node.integers(1, "lengths")
    elif node.attr("split") is not None:
        sizes = list(node.attr("split"))
    else:
        count = node.attr("num_outputs") or len(node.outputs)
        each = -(-length // count)
        sizes = [each] * (count - 1) + [length - each * (count - 1)]
    if min(sizes) < 1:
        node.refuse("a part of no length")
    return sizes


def padding_of(node: Node) -> list[list[int]]:
    """Begin and end of every axis of a Pad; negative where it cuts."""
    own = node.shape(0)
    axes = node.integers(3, "axes") if node.has(3) else list(range(len(own)))
    given = node.integers(1, "lengths")
    pads = [[0, 0] for _ in own]
    for place, axis in enumerate(axes):
        pads[axis % len(own)] = [given[place], given[place + len(axes)]]
    return pads


def reduced_axes(node: Node) -> list[int] | None:
    """The axes a reduction goes over; None where it goes over none."""
    rank = len(node.shape(0))
    given = node.integers(1, "axes") if node.has(1) else list(node.attr("axes", []))
    if not given:
        return None if node.attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in given)


def slices_of(node: Node) -> list[Taken]:
    """What a Slice takes along each axis.

    Raises:
        OperatorRefusedError: A slice of no length.
    """
    own = node.shape(0)
    taken = [Taken(begin=0, end=length, step=1, turned=False) for length in own]
    for start, stop, axis, step in zip(*_bounds(node), strict=True):
        places = range(own[axis % len(own)])[start:stop:step]
        if not places:
            node.refuse("a slice of no length")
        low, high = min(places[0], places[-1]), max(places[0], places[-1])
        taken[axis % len(own)] = Taken(begin=low, end=high + 1, step=abs(step), turned=step < 0)
    return taken


def _bounds(node: Node) -> tuple[Sequence[int], ...]:
    if len(node) == 1:
        starts, ends = list(node.attr("starts")), list(node.attr("ends"))
        return starts, ends, list(node.attr("axes", range(len(starts)))), [1] * len(starts)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    axes = node.integers(3, "axes") if node.has(3) else list(range(len(starts)))
    steps = node.integers(4, "steps") if node.has(4) else [1] * len(starts)
    return starts, ends, axes, steps
