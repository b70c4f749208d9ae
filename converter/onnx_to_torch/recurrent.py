"""LSTM, GRU and RNN, in both directions and with initial states, written out step by step.

The products with the input are one matrix product for all steps. PyTorch's own layers leave loops and layouts
to the tools after them, and the sequence operators of TFLite read gates in ways that are easily got wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from converter.onnx_importing.recurrence import (
    Weights,
    backwards_of,
    check_recurrent,
    known_state,
    state_axis,
    weights_of,
)
from converter.onnx_to_torch.node import Convert, Node, as_tensor

__all__ = ["OPERATORS"]

_MOST_STEPS = 512
_States = tuple[torch.Tensor, ...]
_Step = Callable[[torch.Tensor, _States], _States]
"""From what the input gives to the gates, and the states before, to those after; the first is the output."""
_Layer = Callable[[Node, Weights], _Step]
"""A direction's step, its weights made tensors once for all steps."""


def _recurrent(layer: _Layer, order: str, states: int) -> Convert:
    def convert(node: Node) -> list[torch.Tensor]:
        check_recurrent(node)
        x, batch_first = node.tensor(0), bool(node.attr("layout", 0))
        x = x.transpose(0, 1) if batch_first else x
        if x.shape[0] > _MOST_STEPS:
            node.refuse(f"{x.shape[0]} steps, at most {_MOST_STEPS} are written out")
        found = []
        for place, backward in enumerate(backwards_of(node)):
            weights = weights_of(node, place, order)
            first = tuple(_state(node, 5 + index, place) for index in range(states))
            given = functional.linear(x, as_tensor(weights.given), as_tensor(weights.given_bias))
            found.append(_run(layer(node, weights), given, first, backward=backward))
        return _joined(found, states, batch_first=batch_first)

    return convert


def _run(step: _Step, given: torch.Tensor, states: _States, *, backward: bool) -> _States:
    """One direction: outputs of [steps, batch, hidden], and the last states."""
    every = list(given.unbind(0))
    outputs = []
    for item in reversed(every) if backward else every:
        states = step(item, states)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backward else outputs), *states


def _joined(found: list[_States], states: int, *, batch_first: bool) -> list[torch.Tensor]:
    """Outputs as ONNX lays them out: [steps, directions, batch, hidden] and [directions, batch, hidden]."""
    outputs = torch.stack([item[0] for item in found], 1)
    last = [torch.stack([item[place + 1] for item in found]) for place in range(states)]
    if batch_first:
        return [outputs.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)]
    return [outputs, *last]


def _state(node: Node, index: int, direction: int) -> torch.Tensor:
    """An initial state of a direction."""
    known = known_state(node, index, direction)
    return node.tensor(index).select(state_axis(node), direction) if known is None else as_tensor(known)


def _lstm(node: Node, weights: Weights) -> _Step:
    del node
    kept, bias = as_tensor(weights.kept), as_tensor(weights.kept_bias)

    def step(given: torch.Tensor, states: _States) -> _States:
        state, cell = states
        enter, forget, out, new = (given + functional.linear(state, kept, bias)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(cell), cell

    return step


def _gru(node: Node, weights: Weights) -> _Step:
    both = 2 * len(weights.kept) // 3
    gates, gates_bias = as_tensor(weights.kept[:both]), as_tensor(weights.kept_bias[:both])
    last, last_bias = as_tensor(weights.kept[both:]), as_tensor(weights.kept_bias[both:])
    after = bool(node.attr("linear_before_reset", 0))

    def step(given: torch.Tensor, states: _States) -> _States:
        (state,) = states
        update_in, reset_in, new_in = given.chunk(3, -1)
        update_h, reset_h = functional.linear(state, gates, gates_bias).chunk(2, -1)
        update, reset = torch.sigmoid(update_in + update_h), torch.sigmoid(reset_in + reset_h)
        if after:
            new_h = reset * functional.linear(state, last, last_bias)
        else:
            new_h = functional.linear(reset * state, last, last_bias)
        new = torch.tanh(new_in + new_h)
        return (new + update * (state - new),)

    return step


def _rnn(node: Node, weights: Weights) -> _Step:
    del node
    kept, bias = as_tensor(weights.kept), as_tensor(weights.kept_bias)

    def step(given: torch.Tensor, states: _States) -> _States:
        return (torch.tanh(given + functional.linear(states[0], kept, bias)),)

    return step


OPERATORS: dict[str, Convert] = {
    "LSTM": _recurrent(_lstm, "ifoc", 2), "GRU": _recurrent(_gru, "zrh", 1), "RNN": _recurrent(_rnn, "i", 1),
}  # fmt: skip
