"""Recurrent layers, which TensorFlow computes in a loop that not every target has.

TFLite has loops, but its lists are of one size: a file with one takes one sample at a time. It is as fast
as the steps written out (LSTM of 32 over 64 steps: 98 against 94 µs), a sixth of the size, and made in a
tenth of the time. Core ML's TensorFlow frontend has none, so there the steps are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from converter.errors import OperatorRefusedError
from converter.passes.keras_model import Traced

__all__ = ["traced_for_lists", "written_out"]

_LOOPS = ("While", "StatelessWhile")
_NEEDS_LENGTH = "fixed number of timesteps"
"""From what Keras raises."""


def traced_for_lists(trace: Callable[[int | None], Traced]) -> Traced:
    """The traced function of any batch, or of one sample where a loop is in it.

    Args:
        trace: Traces the source for a batch size.
    """
    traced = trace(None)
    looping = any(operation.type in _LOOPS for operation in traced.concrete.graph.get_operations())
    return trace(1) if looping else traced


@contextmanager
def written_out(model: Any) -> Iterator[None]:  # noqa: ANN401 - keras is untyped
    """Trace a Keras model with the steps of its recurrent layers one after another.

    Args:
        model: The source; anything but a Keras model is left as it is.

    Raises:
        OperatorRefusedError: A sequence is of any length.
    """
    layers = model._flatten_layers() if isinstance(model, keras.Model) else ()  # noqa: SLF001 - no public way
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    before = [layer.unroll for layer in recurrent]
    for layer in recurrent:
        layer.unroll = True
    try:
        yield
    except ValueError as error:
        if _NEEDS_LENGTH not in str(error):
            raise
        raise OperatorRefusedError(
            "Core ML takes a recurrent layer over a fixed number of steps; give the input that length"
        ) from error
    finally:
        for layer, unroll in zip(recurrent, before, strict=True):
            layer.unroll = unroll
