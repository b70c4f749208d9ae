"""What ai-edge-quantizer is told of each layer.

Every layer is given its own configuration, so that a rule changes it alone; what a policy of the quantizer
does not know it would leave in floats without a word.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
from ai_edge_quantizer.recipe_manager import RecipeManager

from converter.errors import RouteError
from converter.layers import Layer
from converter.variants import Precision

__all__ = ["STATIC_BITS", "LayerRecipes"]

STATIC_BITS = {Precision.INT8: 8, Precision.INT16X8: 16}
"""Of activations whose ranges are fixed beforehand."""
_WEIGHTS = (Precision.FP16, Precision.INT8_DYNAMIC, Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
_OPERATIONS = {item.value: item for item in TFLOperationName if item.value.isupper()}
_RENAMED = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
_FOUR_BITS = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP", "BATCH_MATMUL")
_IN_BLOCKS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")
_BLOCKS = {
    32: QuantGranularity.BLOCKWISE_32,
    64: QuantGranularity.BLOCKWISE_64,
    128: QuantGranularity.BLOCKWISE_128,
    256: QuantGranularity.BLOCKWISE_256,
}
_DEFAULT_BLOCK = 32


class LayerRecipes:
    """The configurations of a model's layers."""

    def __init__(self, *, per_channel: bool, block_size: int | None) -> None:
        """Begin with none.

        Raises:
            RouteError: No kernel knows blocks of this size.
        """
        size = block_size or _DEFAULT_BLOCK
        if size not in _BLOCKS:
            raise RouteError(f"TFLite has blocks of {', '.join(map(str, _BLOCKS))} weights, none of {size}")
        self._block_size = size
        self._granularity = QuantGranularity.CHANNELWISE if per_channel else QuantGranularity.TENSORWISE
        self._manager = RecipeManager()

    @property
    def content(self) -> Any:  # noqa: ANN401 - untyped
        """As the quantizer takes it; empty where no layer can be changed."""
        return self._manager.get_quantization_recipe()

    def add(self, layer: Layer, precision: Precision, *, scope: str, row: int) -> None:
        """Say what becomes of one layer; one that no kernel computes so is left in floats.

        Args:
            layer: As it is listed.
            precision: What it is given.
            scope: What the quantizer matches it by.
            row: The last dimension of its weight, along which blocks lie.

        Raises:
            RouteError: TFLite has no such precision.
        """
        if precision is Precision.FP32:
            return
        if precision not in (*_WEIGHTS, *STATIC_BITS):
            raise RouteError(f"layer {layer.layer}: TFLite has no {precision.value}")
        operation = _OPERATIONS.get(_RENAMED.get(layer.op, layer.op))
        if operation is not None and (layer.weight_bytes or precision in STATIC_BITS):
            with contextlib.suppress(ValueError):  # the only way to learn that a policy does not know it
                self._add(f"^{re.escape(scope)}$", operation, precision, row)

    def _add(self, regex: str, operation: Any, precision: Precision, row: int) -> None:  # noqa: ANN401
        match precision:
            case Precision.FP16:
                casting = AlgorithmName.FLOAT_CASTING
                self._manager.add_weight_only_config(regex, operation, 16, algorithm_key=casting)
            case Precision.INT8_WEIGHTS:
                self._manager.add_weight_only_config(regex, operation, 8, self._granularity)
            case Precision.INT8_DYNAMIC:
                self._manager.add_dynamic_config(regex, operation, 8, self._granularity)
            case Precision.INT4_WEIGHTS:
                self._add_four_bits(regex, operation, row)
            case _:
                bits = STATIC_BITS[precision]
                self._manager.add_static_config(regex, operation, bits, 8, self._granularity)

    def _add_four_bits(self, regex: str, operation: Any, row: int) -> None:  # noqa: ANN401
        """In blocks where kernels know them, else by channel; in eight bits where none know four."""
        if operation.value not in _FOUR_BITS:
            self._manager.add_weight_only_config(regex, operation, 8)
        elif operation.value in _IN_BLOCKS and row and row % self._block_size == 0:
            self._manager.add_dynamic_config(regex, operation, 4, _BLOCKS[self._block_size])
        elif operation.value == "BATCH_MATMUL":
            self._manager.add_weight_only_config(regex, operation, 4)
        else:
            # Weights that kernels read as they are; behind a DEQUANTIZE they are unpacked at every run.
            self._manager.add_dynamic_config(regex, operation, 4)
