"""Recurrent layers over [sequence, batch, features]: RNN, GRU, LSTM, forward, reverse and both.

A `reverse` layer gives its outputs in the order it computes them, the last input's first; the backward half
of a bidirectional one gives them at the places of its inputs. That is how coremltools' own comparisons with
Apple's runtime have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converter.coreml_reference.activations import BY_NAME
from converter.coreml_reference.arguments import Arguments, Compute
from converter.coreml_reference.datatypes import Array

__all__ = ["OPERATIONS"]

_Function = Callable[[Array], Array]
_Step = Callable[[Array, Array], Array]


def _function(a: Arguments, name: str, default: str) -> _Function:
    kind = a.text(name, default)
    if kind not in BY_NAME:
        raise a.unsupported(f"{name} {kind}")
    return BY_NAME[kind]


def _bias(a: Arguments, name: str, length: int) -> Array:
    bias = a.optional(name)
    return np.zeros(length) if bias is None else bias


def _through(a: Arguments, step: _Step) -> tuple[Array, Array]:
    """Run a step through the sequence in the layer's direction: (outputs, last hidden state)."""
    x, hidden = a["x"], a["initial_h"]
    direction = a.text("direction", "forward")
    if direction not in ("forward", "reverse"):
        raise a.unsupported(f"direction {direction}")
    states = []
    for features in x[::-1] if direction == "reverse" else x:
        hidden = step(features, hidden)
        states.append(hidden)
    return (np.stack(states) if a.flag("output_sequence") else hidden[None]), hidden


def _rnn(a: Arguments) -> tuple[Array, Array]:
    weight_in, weight_hidden = a["weight_ih"], a["weight_hh"]
    bias, activation = _bias(a, "bias", len(weight_in)), _function(a, "activation", "tanh")
    return _through(a, lambda x, h: activation(x @ weight_in.T + h @ weight_hidden.T + bias))


def _gru(a: Arguments) -> tuple[Array, Array]:
    weight_in, weight_hidden = a["weight_ih"], a["weight_hh"]  # rows: reset, output, update
    size = weight_hidden.shape[1]
    gate, activation = _function(a, "recurrent_activation", "sigmoid"), _function(a, "activation", "tanh")
    bias, input_bias = _bias(a, "bias", 3 * size), _bias(a, "input_bias", 3 * size)
    reset_after = a.flag("reset_after")

    def step(x: Array, h: Array) -> Array:
        given = x @ weight_in.T + input_bias
        if not reset_after:
            given = given + bias
        given_r, given_o, given_z = np.split(given, 3, axis=-1)
        kept_r, kept_o, kept_z = np.split(h @ weight_hidden.T + (bias if reset_after else 0.0), 3, axis=-1)
        reset, update = gate(given_r + kept_r), gate(given_z + kept_z)
        if reset_after:
            new = activation(given_o + reset * kept_o)
        else:
            new = activation(given_o + (reset * h) @ weight_hidden[size : 2 * size].T)
        return np.asarray((1.0 - update) * new + update * h)

    return _through(a, step)


def _lstm(a: Arguments) -> tuple[Array, Array, Array]:
    direction = a.text("direction", "forward")
    x, hidden, cell = a["x"], a["initial_h"], a["initial_c"]
    if direction != "bidirectional":
        if direction not in ("forward", "reverse"):
            raise a.unsupported(f"direction {direction}")
        states, hidden, cell = _lstm_pass(a, x[::-1] if direction == "reverse" else x, hidden, cell, "")
        return (states if a.flag("output_sequence") else hidden[None]), hidden, cell
    size = hidden.shape[-1] // 2
    forth = _lstm_pass(a, x, hidden[:, :size], cell[:, :size], "")
    back = _lstm_pass(a, x[::-1], hidden[:, size:], cell[:, size:], "_back")
    states = np.concatenate([forth[0], back[0][::-1]], axis=-1)
    hidden, cell = (np.concatenate(pair, axis=-1) for pair in zip(forth[1:], back[1:], strict=True))
    return (states if a.flag("output_sequence") else hidden[None]), hidden, cell


def _lstm_pass(a: Arguments, x: Array, hidden: Array, cell: Array, suffix: str) -> tuple[Array, Array, Array]:
    """One direction: (hidden states in order, last hidden state, last cell state)."""
    weight_in, weight_hidden = a[f"weight_ih{suffix}"], a[f"weight_hh{suffix}"]  # rows: i, f, o, z
    size = weight_hidden.shape[1]
    bias = _bias(a, f"bias{suffix}", 4 * size)
    peek_i, peek_f, peek_o = np.split(_bias(a, f"peephole{suffix}", 3 * size), 3)
    gate = _function(a, "recurrent_activation", "sigmoid")
    cell_activation, activation = _function(a, "cell_activation", "tanh"), _function(a, "activation", "tanh")
    bound = a.number("clip") if "clip" in a else np.inf
    states = []
    for features in x:
        i, f, o, z = np.split(features @ weight_in.T + hidden @ weight_hidden.T + bias, 4, axis=-1)
        kept = gate(f + peek_f * cell) * cell
        cell = np.clip(kept + gate(i + peek_i * cell) * cell_activation(z), -bound, bound)
        hidden = gate(o + peek_o * cell) * activation(cell)
        states.append(hidden)
    return np.stack(states), hidden, cell


OPERATIONS: Mapping[str, Compute] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}
