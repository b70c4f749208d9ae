"""LSTM, GRU and RNN, in both directions and with initial states.

A backward layer is a forward one over the reversed sequence, so that nothing depends on how a runtime
reads `direction`. GRU is written out step by step: MIL's own has no bias inside the reset gate, which
Keras and PyTorch have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_MOST_STEPS = 512
_Layer = Callable[[Node, int, Value], tuple[Value, ...]]
"""Runs one direction over [steps, batch, features]: outputs, and the last states of [batch, hidden]."""
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _recurrent(layer: _Layer, states: int) -> Convert:
    def convert(node: Node) -> Value:
        _check(node)
        x = node.var(0)
        batch_first = bool(node.attr("layout", 0))
        if batch_first:
            x = mb.transpose(x=x, perm=[1, 0, 2])
        direction = node.attr("direction", "forward")
        backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        found: list[tuple[Value, ...]] = []
        for place, backward in enumerate(backwards):
            given = mb.reverse(x=x, axes=[0]) if backward else x
            outputs, *last = layer(node, place, given)
            found.append((mb.reverse(x=outputs, axes=[0]) if backward else outputs, *last))
        return _joined(node, found, states, batch_first=batch_first)

    return convert


def _check(node: Node) -> None:
    steps, batch, _ = dims(node.var(0))
    if node.attr("layout", 0):
        steps, batch = batch, steps
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


def _joined(node: Node, found: list[tuple[Value, ...]], states: int, *, batch_first: bool) -> list[Value]:
    """Outputs as ONNX lays them out: [steps, directions, batch, hidden] and [directions, batch, hidden]."""
    results = []
    for place in range(states + 1):
        parts = [mb.expand_dims(x=item[place], axes=[0 if place else 1]) for item in found]
        joined = mb.concat(values=parts, axis=0 if place else 1) if len(parts) > 1 else parts[0]
        if batch_first:
            joined = mb.transpose(x=joined, perm=[1, 0, 2] if place else [2, 0, 1, 3])
        results.append(joined)
    return results[: len(node.outputs)]


def _weights(node: Node, place: int, order: str) -> tuple[Any, Any, Any, Any]:
    """Input and hidden weights and biases of a direction, gates in the order asked for."""
    own = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}[node.op_type]
    hidden = node.attr("hidden_size") or dims(node.var(2))[-1]
    gates = np.concatenate([np.arange(hidden) + own.index(gate) * hidden for gate in order])
    weight = node.constant(1, "weights")[place].astype(np.float32)[gates]
    kept = node.constant(2, "weights")[place].astype(np.float32)[gates]
    count = len(own) * hidden
    bias = (
        node.constant(3, "bias")[place].astype(np.float32) if node.has(3) else np.zeros(2 * count, np.float32)
    )
    return weight, kept, bias[:count][gates], bias[count:][gates]


def _state(node: Node, index: int, place: int) -> Value:
    """An initial state of a direction: zeros where none is given."""
    hidden = node.attr("hidden_size") or dims(node.var(2))[-1]
    axis = 1 if node.attr("layout", 0) else 0
    batch = dims(node.var(0))[1 - axis]
    if not node.has(index):
        return np.zeros((batch, hidden), np.float32)
    if node.known(index):
        return np.ascontiguousarray(node.constant(index, "state").take(place, axis=axis).astype(np.float32))
    state = mb.split(x=node.var(index), num_splits=dims(node.var(index))[axis], axis=axis)
    chosen = state[place] if isinstance(state, (list, tuple)) else state
    return mb.squeeze(x=chosen, axes=[axis])


def _lstm(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    weight, kept, bias, more = _weights(node, place, "ifoc")
    made = mb.lstm(
        x=x, initial_h=_state(node, 5, place), initial_c=_state(node, 6, place), weight_ih=weight,
        weight_hh=kept, bias=bias + more, direction="forward", output_sequence=True,
    )  # fmt: skip
    return tuple(made)


def _rnn(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    weight, kept, bias, more = _weights(node, place, "i")
    made = mb.rnn(
        x=x, initial_h=_state(node, 5, place), weight_ih=weight, weight_hh=kept, bias=bias + more,
        direction="forward", output_sequence=True, activation="tanh",
    )  # fmt: skip
    return tuple(made)


def _gru(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    weight, kept, bias, more = _weights(node, place, "zrh")
    steps, size = dims(x)[0], len(weight) // 3
    if steps > _MOST_STEPS:
        node.refuse(f"{steps} steps, at most {_MOST_STEPS} are written out")
    after = bool(node.attr("linear_before_reset", 0))
    given = mb.linear(x=x, weight=weight, bias=bias)  # of all steps at once
    every = mb.split(x=given, num_splits=steps, axis=0) if steps > 1 else [given]
    state, states = _state(node, 5, place), []
    for step in every:
        update_in, reset_in, new_in = mb.split(x=mb.squeeze(x=step, axes=[0]), num_splits=3, axis=1)
        if after:
            update_h, reset_h, new_h = mb.split(
                x=mb.linear(x=state, weight=kept, bias=more), num_splits=3, axis=1
            )
        else:
            update_h, reset_h = mb.split(
                x=mb.linear(x=state, weight=kept[: 2 * size], bias=more[: 2 * size]), num_splits=2, axis=1
            )
        update = mb.sigmoid(x=mb.add(x=update_in, y=update_h))
        reset = mb.sigmoid(x=mb.add(x=reset_in, y=reset_h))
        if after:
            new_h = mb.mul(x=reset, y=new_h)
        else:
            new_h = mb.linear(x=mb.mul(x=reset, y=state), weight=kept[2 * size :], bias=more[2 * size :])
        new = mb.tanh(x=mb.add(x=new_in, y=new_h))
        state = mb.add(x=new, y=mb.mul(x=update, y=mb.sub(x=state, y=new)))
        states.append(mb.expand_dims(x=state, axes=[0]))
    return (mb.concat(values=states, axis=0) if len(states) > 1 else states[0]), state


OPERATORS: dict[str, Convert] = {
    "LSTM": _recurrent(_lstm, 2), "GRU": _recurrent(_gru, 1), "RNN": _recurrent(_rnn, 1),
}  # fmt: skip
