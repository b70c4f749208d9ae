"""LSTM, GRU and RNN, in both directions and with initial states.

A backward layer is a forward one over the reversed sequence, so that nothing depends on how a runtime
reads `direction`. GRU is written out step by step: MIL's own has no bias inside the reset gate, which
Keras and PyTorch have.
"""

from __future__ import annotations

from collections.abc import Callable

from converter.onnx_importing.recurrence import (
    backwards_of,
    check_recurrent,
    known_state,
    state_axis,
    weights_of,
)
from converter.onnx_to_mil.node import Convert, Node, Value, dims, mb

__all__ = ["OPERATORS"]

_MOST_STEPS = 512
_Layer = Callable[[Node, int, Value], tuple[Value, ...]]
"""Runs one direction over [steps, batch, features]: outputs, and the last states of [batch, hidden]."""


def _recurrent(layer: _Layer, states: int) -> Convert:
    def convert(node: Node) -> Value:
        check_recurrent(node)
        x = node.var(0)
        batch_first = bool(node.attr("layout", 0))
        if batch_first:
            x = mb.transpose(x=x, perm=[1, 0, 2])
        found: list[tuple[Value, ...]] = []
        for place, backward in enumerate(backwards_of(node)):
            given = mb.reverse(x=x, axes=[0]) if backward else x
            outputs, *last = layer(node, place, given)
            found.append((mb.reverse(x=outputs, axes=[0]) if backward else outputs, *last))
        return _joined(node, found, states, batch_first=batch_first)

    return convert


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


def _state(node: Node, index: int, place: int) -> Value:
    """An initial state of a direction."""
    known = known_state(node, index, place)
    if known is not None:
        return known
    axis = state_axis(node)
    state = mb.split(x=node.var(index), num_splits=dims(node.var(index))[axis], axis=axis)
    chosen = state[place] if isinstance(state, (list, tuple)) else state
    return mb.squeeze(x=chosen, axes=[axis])


def _lstm(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    own = weights_of(node, place, "ifoc")
    made = mb.lstm(
        x=x, initial_h=_state(node, 5, place), initial_c=_state(node, 6, place), weight_ih=own.given,
        weight_hh=own.kept, bias=own.given_bias + own.kept_bias, direction="forward", output_sequence=True,
    )  # fmt: skip
    return tuple(made)


def _rnn(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    own = weights_of(node, place, "i")
    made = mb.rnn(
        x=x, initial_h=_state(node, 5, place), weight_ih=own.given, weight_hh=own.kept,
        bias=own.given_bias + own.kept_bias, direction="forward", output_sequence=True, activation="tanh",
    )  # fmt: skip
    return tuple(made)


def _gru(node: Node, place: int, x: Value) -> tuple[Value, ...]:
    own = weights_of(node, place, "zrh")
    kept, more = own.kept, own.kept_bias
    steps, size = dims(x)[0], len(own.given) // 3
    if steps > _MOST_STEPS:
        node.refuse(f"{steps} steps, at most {_MOST_STEPS} are written out")
    after = bool(node.attr("linear_before_reset", 0))
    given = mb.linear(x=x, weight=own.given, bias=own.given_bias)  # of all steps at once
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
