"""Recurrent layers of the reference evaluator, against ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converter.coreml_reference.datatypes import Array
from converter.errors import UnsupportedOperationError
from tests.converter.coreml_oracles import agree, evaluated, noise, onnx_answers

STEPS, BATCH, FEATURES, HIDDEN = 5, 2, 3, 4
X = noise(STEPS, BATCH, FEATURES)


def _weights(gates: int, seed: int) -> tuple[Array, Array, Array]:
    """Of an input, of the hidden state, and a bias; a block of rows for each gate."""
    return (
        noise(gates * HIDDEN, FEATURES, seed=seed) * 0.5,
        noise(gates * HIDDEN, HIDDEN, seed=seed + 1) * 0.5,
        noise(gates * HIDDEN, seed=seed + 2) * 0.5,
    )


def _ordered(array: Array, order: tuple[int, ...]) -> Array:
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[place] for place in order])


def _onnx(
    kind: str, directions: list[tuple[Array, Array, Array]], direction: str, **rest: Any
) -> list[Array]:
    """(outputs [s, b, directions · h], last hidden state, last cell state)."""
    extra = rest.pop("extra", {})
    inputs = {
        "x": X,
        "w": np.stack([w for w, _, _ in directions]),
        "r": np.stack([r for _, r, _ in directions]),
        "b": np.stack([b for _, _, b in directions]),
        "_lengths": X,
        "h": np.stack([noise(BATCH, HIDDEN, seed=7 + d) for d in range(len(directions))]),
        **extra,
    }
    outputs = 3 if kind == "LSTM" else 2
    answers = onnx_answers(kind, inputs, outputs, hidden_size=HIDDEN, direction=direction, **rest)
    states, *last = answers
    joined = states.transpose(0, 2, 1, 3).reshape(STEPS, BATCH, -1)
    return [joined, *(state.transpose(1, 0, 2).reshape(BATCH, -1) for state in last)]


def _initial(directions: int, seed: int = 7) -> Array:
    return np.concatenate([noise(BATCH, HIDDEN, seed=seed + d) for d in range(directions)], axis=1)


def _check(got: tuple[Array, ...], expected: list[Array], *, sequence: bool, reverse: bool = False) -> None:
    """A reverse layer's outputs come in the order they are computed in, which in ONNX is from the end."""
    states = expected[0][::-1] if reverse else expected[0]
    agree(got[0], states if sequence else expected[1][None])
    for mine, other in zip(got[1:], expected[1:], strict=True):
        agree(mine, other)


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_rnn(direction: str, activation: str, *, sequence: bool) -> None:
    w, r, b = _weights(1, 10)
    expected = _onnx(
        "RNN", [(w, r, np.concatenate([b, 0 * b]))], direction, activations=[activation.capitalize()]
    )
    got = evaluated(
        "rnn", x=X, initial_h=_initial(1), weight_ih=w, weight_hh=r, bias=b, direction=direction,
        output_sequence=sequence, activation=activation,
    )  # fmt: skip
    _check(got, expected, sequence=sequence, reverse=direction == "reverse")


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru(direction: str, *, sequence: bool, reset_after: bool) -> None:
    """Rows are reset, output, update in MIL; update, reset, output in ONNX."""
    w, r, b = _weights(3, 20)
    input_bias = noise(3 * HIDDEN, seed=30) if reset_after else np.zeros(3 * HIDDEN, np.float32)
    order = (2, 0, 1)
    onnx = (_ordered(w, order), _ordered(r, order))
    biases = (input_bias, b) if reset_after else (b, 0 * b)
    bias = np.concatenate([_ordered(part, order) for part in biases])
    expected = _onnx("GRU", [(*onnx, bias)], direction, linear_before_reset=int(reset_after))
    extra: dict[str, Any] = {"reset_after": True, "input_bias": input_bias} if reset_after else {}
    got = evaluated(
        "gru", x=X, initial_h=_initial(1), weight_ih=w, weight_hh=r, bias=b, direction=direction,
        output_sequence=sequence, **extra,
    )  # fmt: skip
    _check(got, expected, sequence=sequence, reverse=direction == "reverse")


IFOZ_TO_IOFC = (0, 2, 1, 3)
"""Rows are input, forget, output, cell in MIL; input, output, forget, cell in ONNX."""


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("peephole", [True, False])
def test_lstm(direction: str, *, sequence: bool, peephole: bool) -> None:
    count = 2 if direction == "bidirectional" else 1
    sides = [_weights(4, 40 + 10 * side) for side in range(count)]
    peeks = [noise(3 * HIDDEN, seed=60 + side) for side in range(count)]
    onnx = [
        (
            _ordered(w, IFOZ_TO_IOFC),
            _ordered(r, IFOZ_TO_IOFC),
            np.concatenate([_ordered(b, IFOZ_TO_IOFC), 0 * b]),
        )
        for w, r, b in sides
    ]
    extra = {"c": np.stack([noise(BATCH, HIDDEN, seed=17 + d) for d in range(count)])}
    if peephole:
        extra["p"] = np.stack([_ordered(peek, (0, 2, 1)) for peek in peeks])
    expected = _onnx("LSTM", onnx, direction, extra=extra)
    arguments: dict[str, Any] = {}
    for suffix, (w, r, b), peek in zip(("", "_back"), sides, peeks, strict=False):
        arguments |= {f"weight_ih{suffix}": w, f"weight_hh{suffix}": r, f"bias{suffix}": b}
        if peephole:
            arguments[f"peephole{suffix}"] = peek
    got = evaluated(
        "lstm", x=X, initial_h=_initial(count), initial_c=_initial(count, 17), direction=direction,
        output_sequence=sequence, **arguments,
    )  # fmt: skip
    _check(got, expected, sequence=sequence, reverse=direction == "reverse")


def test_an_lstms_cell_is_kept_within_its_clip() -> None:
    w, r, b = _weights(4, 80)
    common: dict[str, Any] = {
        "x": X * 5, "initial_h": _initial(1), "initial_c": _initial(1, 17), "weight_ih": w, "weight_hh": r,
        "bias": b,
    }  # fmt: skip
    free, bound = evaluated("lstm", **common), evaluated("lstm", **common, clip=0.25)
    assert np.abs(free[2]).max() > 0.25
    assert np.abs(bound[2]).max() == 0.25


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_constants_that_mil_leaves_open_are_not_guessed(kind: str) -> None:
    w, r, _ = _weights({"rnn": 1, "gru": 3, "lstm": 4}[kind], 90)
    extra = {"initial_c": _initial(1, 17)} if kind == "lstm" else {}
    with pytest.raises(UnsupportedOperationError, match=f"{kind}: activation scaled_tanh"):
        evaluated(
            kind, x=X, initial_h=_initial(1), weight_ih=w, weight_hh=r, activation="scaled_tanh", **extra
        )
    with pytest.raises(UnsupportedOperationError, match="direction sideways"):
        evaluated(kind, x=X, initial_h=_initial(1), weight_ih=w, weight_hh=r, direction="sideways", **extra)
