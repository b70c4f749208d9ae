"""Operators that converters of TensorFlow graphs lack: `Erfc`, which Keras' GELU is made of."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["teach_coreml", "teach_tf2onnx"]


def teach_tf2onnx() -> None:
    """Let tf2onnx write 1 − Erf(x): without it, `Erfc` stays in the graph, which no runtime opens."""
    from tf2onnx.handler import tf_op  # noqa: PLC0415 - of one of two converters

    class _Erfc:
        @classmethod
        def version_9(cls, context: Any, node: Any, **_: Any) -> None:  # noqa: ANN401
            """Rewrite the node in place."""
            taken, name = node.input[0], node.output[0]
            shape, dtype = context.get_shape(name), context.get_dtype(name)
            kind = np.float64 if dtype == _DOUBLE else np.float16 if dtype == _HALF else np.float32
            one = context.make_const(f"{node.name}_one", np.array(1, kind))
            context.remove_node(node.name)
            erf = context.make_node("Erf", [taken], shapes=[shape], dtypes=[dtype])
            context.make_node(
                "Sub", [one.output[0], erf.output[0]], outputs=[name], shapes=[shape], dtypes=[dtype]
            )

    tf_op("Erfc")(_Erfc)


_HALF, _DOUBLE = 10, 11
"""onnx.TensorProto's numbers."""


def teach_coreml() -> None:
    """Let coremltools' TensorFlow frontend write 1 − erf(x)."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813, PLC0415 - as all of it is called
    from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import (  # noqa: PLC0415
        register_tf_op,
    )

    def Erfc(context: Any, node: Any) -> None:  # noqa: ANN401, N802 - the registry goes by the function's name
        erf = mb.erf(x=context[node.inputs[0]])
        context.add(node.name, mb.sub(x=np.float32(1), y=erf, name=node.name))

    register_tf_op(override=True)(Erfc)
