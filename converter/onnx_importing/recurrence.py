"""What recurrent operators say, whichever way their steps are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from converter.onnx_importing.node import Node

__all__ = [
    "Weights",
    "backwards_of",
    "batch_of",
    "check_recurrent",
    "hidden_of",
    "known_state",
    "state_axis",
    "weights_of",
]

_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One direction's, its gates one after the other in the order asked for."""

    given: Array
    """Of the input, [gates × hidden, features]."""
    kept: Array
    """Of the state, [gates × hidden, hidden]."""
    given_bias: Array
    kept_bias: Array


def check_recurrent(node: Node) -> None:
    """Refuse what no importer has an equal for.

    Raises:
        OperatorRefusedError: Peepholes, clipping, other activations, sequences of different lengths.
    """
    steps, batch = _steps_and_batch(node)
    if node.has(4) and node.integers(4, "sequence lengths") != [steps] * batch:
        node.refuse("sequences of different lengths")
    if node.has(7):
        node.refuse("peepholes")
    if node.attr("clip") is not None:
        node.refuse("clip")
    node.only("input_forget", 0, 0)
    usual = _DEFAULTS[node.op_type]
    kinds = [kind.decode() if isinstance(kind, bytes) else kind for kind in node.attr("activations", usual)]
    if any(kind != usual[place % len(usual)] for place, kind in enumerate(kinds)):
        node.refuse(f"activations {', '.join(kinds)}")


def backwards_of(node: Node) -> list[bool]:
    """For each direction, whether it reads the sequence from its end."""
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    return directions[node.attr("direction", "forward")]


def batch_of(node: Node) -> int:
    """The length of the batch."""
    return _steps_and_batch(node)[1]


def hidden_of(node: Node) -> int:
    """The length of a state."""
    return int(node.attr("hidden_size") or node.shape(2)[-1])


def weights_of(node: Node, direction: int, order: str) -> Weights:
    """The weights and biases of a direction, gates in the order asked for, as ONNX's letters name them."""
    own, hidden = _GATES[node.op_type], hidden_of(node)
    gates = np.concatenate([np.arange(hidden) + own.index(gate) * hidden for gate in order])
    count = len(own) * hidden
    bias = np.zeros(2 * count, np.float32)
    if node.has(3):
        bias = node.constant(3, "bias")[direction].astype(np.float32)
    return Weights(
        given=node.constant(1, "weights")[direction].astype(np.float32)[gates],
        kept=node.constant(2, "weights")[direction].astype(np.float32)[gates],
        given_bias=bias[:count][gates],
        kept_bias=bias[count:][gates],
    )


def known_state(node: Node, index: int, direction: int) -> Array | None:
    """An initial state of a direction: zeros where none is given; None where it is computed."""
    if not node.has(index):
        return np.zeros((batch_of(node), hidden_of(node)), np.float32)
    if not node.known(index):
        return None
    state: Any = node.constant(index, "state")
    return np.ascontiguousarray(state.take(direction, axis=state_axis(node)).astype(np.float32))


def state_axis(node: Node) -> int:
    """The axis of directions in a state."""
    return 1 if node.attr("layout", 0) else 0


def _steps_and_batch(node: Node) -> tuple[int, int]:
    first, second, _ = node.shape(0)
    return (second, first) if node.attr("layout", 0) else (first, second)
